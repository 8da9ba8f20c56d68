package server

import (
	"errors"
	"testing"
	"time"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/registry"
)

// TestEjectedWhoReturned has a backend leave its pool and come back while the report of
// its ejection is on the way: nobody would ever report the end of that.
func TestEjectedWhoReturned(t *testing.T) {
	s := &Server{registry: registry.New(), ejector: health.NewEjector(func(health.Ejection) {})}
	s.registry.Declare(&config.Config{Pools: []config.Pool{{Name: "web", Eject: &config.Eject{}}}}, []registry.Backend{
		{Pool: "web", ID: "a"}, {Pool: "web", ID: "b"},
	}, time.Now())
	pools := []health.EjectPool{{Name: "web", Options: health.EjectOptions{Failures: 1}, Backends: []string{"a", "b"}}}
	s.ejector.Update(pools)
	s.ejector.Backend("web", "a").Failed(time.Now(), errors.New("refused"))
	report := health.Ejection{Pool: "web", ID: "a", Ejected: true, Reason: "refused", Until: time.Now().Add(time.Hour)}
	s.ejected(report)
	if !s.registry.View().Status("web", "a").Ejected.On() {
		t.Error("a backend that is ejected does not count as such")
	}
	s.ejector.Update(nil)
	s.ejector.Update(pools)
	s.ejected(report)
	if s.registry.View().Status("web", "a").Ejected.On() {
		t.Error("a backend that is no longer ejected counts as such, for good")
	}
}
