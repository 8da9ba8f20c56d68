package server

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
)

// ending is a certificate that lives so long, of which so much is left.
func ending(name string, life, left time.Duration) CertificateView {
	until := time.Now().Add(left)
	v := CertificateView{Facts: certs.Facts{Names: []string{name}, NotBefore: until.Add(-life), NotAfter: until}, File: name + ".pem"}
	copy(v.SHA256[:], name)
	return v
}

// shelfLife is what warnOfExpiry is given and what it says, in a bubble of its own time.
type shelfLife struct {
	mu    sync.Mutex // guards the fields below
	views []CertificateView
	log   bytes.Buffer
}

func (s *shelfLife) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

func (s *shelfLife) certificates() []CertificateView {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.views)
}

// said returns what was said since it was last asked, as "file days", and "!" behind one
// that has expired.
func (s *shelfLife) said() string {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for line := range strings.Lines(s.log.String()) {
		m := regexp.MustCompile(`file=(\S+) .*days_left=(-?\d+)`).FindStringSubmatch(line)
		text := fmt.Sprintf("%s %s", m[1], m[2])
		if strings.Contains(line, "has expired") {
			text += "!"
		}
		out = append(out, text)
	}
	s.log.Reset()
	return strings.Join(out, ", ")
}

// TestExpiry lets a year go by: each certificate is spoken of when 30, 14 and 3 days are
// left and when none are, once each, also one that comes later.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &shelfLife{}
		old := ending("old", 90*day, 80*day)
		old.Superseded = true
		managed := ending("managed", 90*day, 45*day)
		managed.ACME = true
		s.views = []CertificateView{
			ending("year", 365*day, 100*day), ending("soon", 365*day, 10*day), ending("dead", 365*day, -day),
			ending("brief", 6*day, 5*day), old, managed, ending("year", 365*day, 100*day),
		}
		due := make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { // ends before the bubble does
			defer close(done)
			warnOfExpiry(ctx, s.certificates, due, slog.New(slog.NewTextHandler(s, nil)))
		}()
		begin := time.Now()
		expect := func(at time.Duration, want string) {
			t.Helper()
			<-time.After(time.Until(begin.Add(at))) // of the bubble's time
			if got := s.said(); got != want {
				t.Errorf("after %v: got %q, want %q", at, got, want)
			}
		}
		expect(0, "soon.pem 10")
		expect(3*day-time.Second, "")
		expect(3*day, "brief.pem 2") // a third of its life
		expect(5*day+time.Minute, "brief.pem 0!")
		expect(7*day, "soon.pem 3")
		expect(10*day, "soon.pem 0!")
		expect(30*day-time.Second, "")
		expect(31*day, "acme 14")
		expect(42*day, "acme 3")
		s.mu.Lock()
		renewed := ending("managed", 90*day, 90*day)
		renewed.ACME = true
		copy(renewed.SHA256[:], "renewed")
		s.views[5] = renewed
		s.views = append(s.views, ending("late", 365*day, 20*day))
		s.mu.Unlock()
		due <- struct{}{}
		expect(42*day, "late.pem 20")
		expect(48*day, "late.pem 14")
		expect(62*day, "late.pem 3, late.pem 0!")
		expect(69*day, "")
		expect(70*day, "year.pem 30")
		expect(97*day, "year.pem 14, year.pem 3")
		expect(101*day, "year.pem 0!")
		expect(117*day-time.Second, "")
		expect(118*day, "acme 14")
		cancel()
		<-done
	})
}

// TestExpiriesForget: what is said of a certificate that goes is forgotten.
func TestExpiriesForget(t *testing.T) {
	e := expiries{}
	var said int
	count := func(*CertificateView) { said++ }
	views := []CertificateView{ending("a", 365*day, 10*day)}
	for range 2 {
		e.look(time.Now(), views, count)
		e.look(time.Now(), views, count)
		if wait := e.look(time.Now(), nil, count); wait != day {
			t.Errorf("got %v to wait for nothing, want a day", wait)
		}
	}
	if said != 2 || len(e) != 0 {
		t.Errorf("got %d sayings, %d remembered, want 2 and none", said, len(e))
	}
}
