package server_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
)

func TestReloadInWords(t *testing.T) {
	lab.Leaks(t)
	ca, one, two := echoes(t)
	both := pool(unprobed, one, two)
	o := operate(t, both)
	// One on each.
	held := []io.Closer{o.session(ca, "a.test"), o.session(ca, "a.test")}
	two.WaitAccepted(t, 1)
	next := "[[routes]]\nname = \"x\"\nhosts = [\"x.test\"]\npool = \"web\"\n[[routes]]\nname = \"y\"\nhosts = [\"y.test\"]\nmode = \"reject\"\n" +
		pool(unprobed, one) + "[timeouts]\ndrain = \"1h\"\n"
	o.write(preamble + next)
	want := []string{"2 routes added: x, y", "pool web: backend b2 removed, drains 1 session", "settings changed: timeouts"}
	d := must(o.Difference(t.Context()))
	if got := fmt.Sprintf("%q", d.Changes); got != fmt.Sprintf("%q", want) {
		t.Errorf("got %s that would change, want %q", got, want)
	}
	if !strings.Contains(d.Diff, "\n+drain = \"1h\"\n") || !strings.Contains(d.Diff, "\n-drain = \"30s\"\n") {
		t.Errorf("got a difference of\n%s\nwant the new drain in it", d.Diff)
	}
	if got := must(o.Status(t.Context())).Generation; got != 1 {
		t.Errorf("got generation %d, want that of the start: nothing was to change", got)
	}
	done := must(o.Reload(t.Context()))
	if got := fmt.Sprintf("%q", done.Changes); got != fmt.Sprintf("%q", want) || done.Generation != 2 {
		t.Errorf("got generation %d, %s; want 2, %q", done.Generation, got, want)
	}
	o.log.wait(t, `msg="backend removed" pool=web backend=b2 sessions=1`, 1)
	if d := must(o.Difference(t.Context())); len(d.Changes) != 0 || d.Diff != "" {
		t.Errorf("got %+v that would change, want nothing", d)
	}

	o.write(preamble + "[[routes]]\nhosts = [\"a.test\"]\n")
	_, err := o.Reload(t.Context())
	refused, ok := errors.AsType[*admin.Error](err)
	if !ok || refused.Status != http.StatusConflict || len(refused.Problems) != 1 || !strings.Contains(refused.Problems[0], "neither pool nor backends") {
		t.Errorf("got %+v, want each problem of the file", err)
	}
	if got := must(o.Status(t.Context())); got.Generation != 2 || !strings.Contains(got.ReloadFailed, "neither pool nor backends") {
		t.Errorf("got %+v, want the configuration of before, and why the reload failed", got)
	}
	for _, c := range held {
		c.Close()
	}
}
