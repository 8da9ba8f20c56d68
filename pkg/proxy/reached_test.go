package proxy_test

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// verdicts keeps what a target was told of its sessions.
type verdicts struct {
	mu   sync.Mutex // guards errs
	errs []error
}

func (v *verdicts) take(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.errs = append(v.errs, err)
}

func (v *verdicts) list() []error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.errs
}

// TestReached tells of each backend once what became of a session: refused, reached, or
// failed behind the dial, by its TLS.
func TestReached(t *testing.T) {
	ca := authority(t)
	live := lab.Serve(t, lab.Echo(), lab.Options{})
	sealed := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.server(t, "other.test")})
	for _, tc := range []struct {
		name    string
		route   func(reached func(error)) *proxy.Route
		session func(h *harness)
		want    error // nil: reached
		outcome proxy.Outcome
	}{
		{
			"passthrough, reached",
			func(reached func(error)) *proxy.Route { return counted(route("a.test", live.Addr()), reached) },
			func(h *harness) {
				c := h.hello("a.test")
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Error(err)
				}
				_ = c.CloseWrite()
				_, _ = io.Copy(io.Discard, c)
			},
			nil,
			proxy.OK,
		},
		{
			"passthrough, refused",
			func(reached func(error)) *proxy.Route { return counted(route("a.test", lab.FreeAddr(t)), reached) },
			func(h *harness) { alerted(t, h.hello("a.test"), 80) },
			unix.ECONNREFUSED,
			proxy.DialFailed,
		},
		{
			"terminated, reached",
			func(reached func(error)) *proxy.Route {
				r := counted(route("a.test", live.Addr()), reached)
				ca.terminate(t, r)
				return r
			},
			func(h *harness) {
				c := h.tls(ca.client("a.test"))
				echoes(t, c)
				_ = c.CloseWrite()
				_, _ = io.Copy(io.Discard, c)
			},
			nil,
			proxy.OK,
		},
		{
			"re-encrypted, a certificate for another",
			func(reached func(error)) *proxy.Route {
				r := counted(route("a.test", sealed.Addr()), reached)
				ca.terminate(t, r)
				r.Pool.TLS = terminate.NewBackend(terminate.BackendOptions{Roots: ca.a.Pool()})
				return r
			},
			func(h *harness) {
				c := h.tls(ca.client("a.test"))
				_, _ = c.Read(make([]byte, 1))
			},
			errAny,
			proxy.BackendTLSFailed,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var told verdicts
			h := start(t, state(t, tc.route(told.take)))
			tc.session(h)
			h.want(tc.outcome)
			got := told.list()
			if len(got) != 1 || (got[0] == nil) != (tc.want == nil) || !errors.Is(tc.want, errAny) && !errors.Is(got[0], tc.want) {
				t.Errorf("told %v, want once %v", got, tc.want)
			}
		})
	}
}

var errAny = errors.New("any")

// counted has the backends of a route tell of their sessions.
func counted(r *proxy.Route, reached func(error)) *proxy.Route {
	var values []any
	var ids []string
	for _, b := range r.Pool.Balancer.Backends() {
		counting := *b.Value().(*proxy.Target)
		counting.Reached = reached
		values, ids = append(values, &counting), append(ids, b.ID())
	}
	update(r.Pool.Balancer, values, ids...)
	return r
}

// TestEndOfADownBackend ends the sessions of a backend with an outcome of their own.
func TestEndOfADownBackend(t *testing.T) {
	one := lab.Serve(t, lab.Echo(), lab.Options{})
	r := route("a.test", one.Addr())
	h := start(t, state(t, r))
	c := h.hello("a.test")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	h.p.EndBackend("a.test", one.Addr(), proxy.BackendReset)
	reset(t, c)
	if rec := h.want(proxy.BackendReset); rec.EndedBy != proxy.BySnicket {
		t.Errorf("ended by %v, want snicket", rec.EndedBy)
	}
}

// TestLeastTime measures to the backend's first byte, not to the connection, which a
// kernel makes for a backend that hangs.
func TestLeastTime(t *testing.T) {
	ca := authority(t)
	for _, tc := range []struct {
		name string
		make func(r *proxy.Route)
		open func(h *harness) net.Conn
	}{
		{"passthrough", func(*proxy.Route) {}, func(h *harness) net.Conn { return h.hello("a.test") }},
		{
			"terminated",
			func(r *proxy.Route) { ca.terminate(t, r) },
			func(h *harness) net.Conn {
				c := h.tls(ca.client("a.test"))
				h.send(c, []byte("x"))
				return c
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			asked, answer := make(chan struct{}), make(chan struct{})
			slow := lab.Serve(t, func(c *lab.Conn) {
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					return
				}
				close(asked)
				<-answer
				_, _ = io.WriteString(c, "y")
				_, _ = io.Copy(io.Discard, c)
			}, lab.Options{})
			r := route("a.test", slow.Addr())
			tc.make(r)
			r.Pool.Balancer.Configure(balancer.Options{Policy: balancer.LeastTime})
			b := r.Pool.Balancer.Backends()[0]
			h := start(t, state(t, r))
			c := tc.open(h)
			<-asked
			begun := time.Now()
			if got := b.Latency(); got != 0 {
				t.Errorf("latency %v before the first byte, want none", got)
			}
			<-time.After(20 * time.Millisecond)
			least := time.Since(begun)
			close(answer)
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			eventually(t, "a sample", func() bool { return b.Latency() > 0 })
			at := b.Latency()
			if at < least {
				t.Errorf("latency %v, want at least %v", at, least)
			}
			_ = c.Close()
			h.record()
			if got := b.Latency(); got != at {
				t.Errorf("latency %v after the session's end, want that of its beginning, %v", got, at)
			}
		})
	}
}

// TestLeastTimeOfASilentBackend counts what never answered as slow, and not as quick as its
// kernel was to connect.
func TestLeastTimeOfASilentBackend(t *testing.T) {
	asked := make(chan struct{})
	silent := lab.Serve(t, func(c *lab.Conn) {
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			return
		}
		close(asked)
		_, _ = io.Copy(io.Discard, c)
	}, lab.Options{})
	r := route("a.test", silent.Addr())
	r.Idle = 50 * time.Millisecond
	r.Pool.Balancer.Configure(balancer.Options{Policy: balancer.LeastTime})
	h := start(t, state(t, r))
	h.hello("a.test")
	<-asked
	h.want(proxy.IdleTimeout)
	if got := r.Pool.Balancer.Backends()[0].Latency(); got < r.Idle {
		t.Errorf("latency %v, want at least %v", got, r.Idle)
	}
}
