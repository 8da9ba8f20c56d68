package server_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
	"github.com/snicketlb/snicket/pkg/server"
)

// A default place that another process has is left to it, with a warning; one that is
// asked for by name and cannot be had is an error.
func TestAdminSocketOfAnother(t *testing.T) {
	lab.Leaks(t)
	first := operate(t, unprobedRoute)
	second := startBy(t, server.Options{AdminSocket: first.socket}, preamble+unprobedRoute)
	second.log.wait(t, `level=WARN msg="no admin socket" why=".*another process answers there" hint=".*\[admin\] socket`, 1)
	second.reload(1, unprobedRoute)
	if n := strings.Count(second.log.String(), "no admin socket"); n != 1 {
		t.Errorf("got told %d times that there is no socket, want once", n)
	}
	second.write(preamble + unprobedRoute + fmt.Sprintf("[admin]\nsocket = %q\n", first.socket))
	second.signals <- syscall.SIGHUP
	second.log.wait(t, `msg="reload failed" problems=".*snicket.toml:\d+: admin: .*another process answers there: another process has it; name another"`, 1)
	if s := must(first.Status(t.Context())); s.Generation != 1 {
		t.Errorf("got generation %d from the socket, want the first server's", s.Generation)
	}
}

// Places that cannot be had fail a reload, and what was there stays.
func TestAdminPlacesFailReloads(t *testing.T) {
	lab.Leaks(t)
	taken := lab.Serve(t, lab.Mute(), lab.Options{})
	o := operate(t, unprobedRoute)
	for name, tc := range map[string]struct{ settings, want string }{
		"address in use":  {fmt.Sprintf("address = %q\n", taken.Addr()), "address already in use: another process has it"},
		"no directory":    {fmt.Sprintf("socket = %q\n", filepath.Join(t.TempDir(), "none", "a.sock")), "create the directory"},
		"no socket":       {fmt.Sprintf("socket = %q\n", lab.WriteFile(t, filepath.Join(t.TempDir(), "file"), nil)), "is a file that is no socket"},
		"unknown group":   {"mode = \"0660\"\ngroup = \"nobody-has-this\"\n", "unknown group nobody-has-this"},
		"address of none": {"address = \"192.0.2.1:9600\"\n", "no interface of this machine has the address"},
	} {
		o.write(preamble + unprobedRoute + "[admin]\n" + tc.settings)
		_, err := o.Reload(t.Context())
		refused, ok := errors.AsType[*admin.Error](err)
		if !ok || len(refused.Problems) == 0 || !strings.Contains(refused.Problems[0], tc.want) {
			t.Errorf("%s: got %+v, want %q", name, refused, tc.want)
		}
	}
	if s := must(o.Status(t.Context())); s.Generation != 1 {
		t.Errorf("got generation %d, want that of the start", s.Generation)
	}
}

// The socket moves with the configuration, and has the mode and group that it asks for.
func TestAdminSocketMoves(t *testing.T) {
	lab.Leaks(t)
	group := must(user.LookupGroupId(must(user.Current()).Gid))
	o := operate(t, unprobedRoute)
	moved := filepath.Join(t.TempDir(), "moved.sock")
	o.reload(1, unprobedRoute+fmt.Sprintf("[admin]\nsocket = %q\nmode = \"0660\"\ngroup = %q\n", moved, group.Name))
	info := must(os.Lstat(moved))
	if got, want := info.Mode(), fs.ModeSocket|0o660; got != want {
		t.Errorf("got mode %v, want %v", got, want)
	}
	if _, err := os.Lstat(o.socket); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v of the former socket, want no file", err)
	}
	c := client.New(moved)
	defer c.Close()
	if s := must(c.Status(t.Context())); s.Generation != 2 {
		t.Errorf("got generation %d, want 2", s.Generation)
	}
}
