package server_test

import (
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
)

// Within shutdown_delay all goes on, but for readiness; then the drain begins, at once
// if a second signal asks for it.
func TestShutdownDelay(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	text := pool(unprobed, backend) + "[timeouts]\ndrain = \"1h\"\nshutdown_delay = "
	o := operate(t, text+"\"1h\"\n")
	held := o.session(ca, "a.test")
	o.signals <- syscall.SIGTERM
	o.log.wait(t, `msg=stopping signal=terminated shutdown_delay=1h`, 1)
	if status, body := o.get(t, "/readyz"); status != http.StatusServiceUnavailable || !strings.HasPrefix(body, "stopping") {
		t.Errorf("got %d %q, want not ready", status, body)
	}
	if status, _ := o.get(t, "/healthz"); status != http.StatusOK {
		t.Errorf("got %d, want a process in good health", status)
	}
	if s := must(o.Status(t.Context())); s.State != admin.Stopping || s.Ready {
		t.Errorf("got %+v, want it stopping", s)
	}
	if _, err := o.Reload(t.Context()); err == nil {
		t.Error("got a reload while stopping")
	}
	hangUp(t, o.session(ca, "a.test"))
	o.echo(held)
	o.signals <- syscall.SIGTERM
	o.log.wait(t, `msg="ending at once"`, 1)
	ended(t, held)
	o.wait()

	o = operate(t, text+"\"1ms\"\n")
	held = o.session(ca, "a.test")
	o.signals <- syscall.SIGTERM
	o.log.wait(t, `msg=draining`, 1)
	if s := must(o.Status(t.Context())); s.State != admin.Draining || s.Ready || s.Sessions != 1 {
		t.Errorf("got %+v, want it draining", s)
	}
	o.echo(held)
	hangUp(t, held)
	o.wait()
}
