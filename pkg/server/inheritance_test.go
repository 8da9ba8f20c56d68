package server

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/registry"
)

// What an operator wants of a backend that has left for a moment goes over to the process
// that follows, and holds there when the backend is back.
func TestWishesOfGoneBackendsAreInherited(t *testing.T) {
	path := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(
		"[[routes]]\nhosts = [\"a.test\"]\npool = \"web\"\n[pools.web]\nbackends = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n"))
	begin := func() *Server {
		s, err := New(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	rows := func(s *Server) []registry.Backend { return backendRows(s.plan.config, nil, nil) }
	wish := registry.Wished{State: registry.WishDown, Since: time.Unix(1, 0), By: "root"}

	before := begin()
	before.registry.Declare(before.plan.config, rows(before), time.Now())
	before.registry.Wish("web", "127.0.0.1:2", func(w *registry.Wished) { *w = wish })
	before.registry.SetBackends(rows(before)[:1], time.Now())

	after := begin()
	known := before.stateNow()
	after.state = &known
	after.registry.Declare(after.plan.config, rows(after)[:1], time.Now())
	after.restoreRows()
	if got := after.registry.View().Status("web", "127.0.0.1:2"); got.Wished != (registry.Wished{}) {
		t.Errorf("got %+v of a backend that is not there, want nothing", got)
	}
	after.registry.SetBackends(rows(after), time.Now())
	if got := after.registry.View().Status("web", "127.0.0.1:2").Wished; got != wish {
		t.Errorf("got %+v, want %+v", got, wish)
	}
}
