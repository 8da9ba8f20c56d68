//go:build e2e

package e2e_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/internal/lab"
)

func preset(t *testing.T, name, address string) health.Exchange {
	t.Helper()
	p, ok := health.Preset(name)
	if !ok {
		t.Fatalf("no preset %s", name)
	}
	p.Address = address
	return p
}

// asPostgres makes a command run as the user postgres if this one is root, who may
// not run a database.
func asPostgres(path string, args ...string) lab.Command {
	if os.Getuid() != 0 {
		return lab.Command{Path: path, Args: args, Dir: "/"}
	}
	return lab.Command{
		Path: "setpriv", Dir: "/",
		Args: append([]string{"--reuid=postgres", "--regid=postgres", "--clear-groups", path}, args...),
	}
}

// startPostgres runs a database server with an empty database, whose rules for
// connections from loopback are of the given method.
func startPostgres(t *testing.T, method string) (p *lab.Process, address string) {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		t.Fatal("PostgreSQL is not installed: apt-get install postgresql")
	}
	bin := filepath.Dir(found[len(found)-1])
	dir, err := os.MkdirTemp("", "snicket-postgres-") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	made := lab.Start(t, asPostgres(filepath.Join(bin, "initdb"), "--no-sync", "--auth", "trust", "--username", "postgres", "--pgdata", data))
	if code := made.Wait(12 * patience); code != 0 {
		t.Fatalf("initdb ended with %d", code)
	}
	if method != "trust" {
		hba := "host all all 127.0.0.1/32 " + method + "\n"
		if method == "none" {
			hba = "host all nobody 127.0.0.1/32 trust\n"
		}
		if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(hba), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address = lab.FreeAddr(t)
	_, port, _ := net.SplitHostPort(address)
	p = lab.Start(t, asPostgres(filepath.Join(bin, "postgres"), "-D", data, "-p", port,
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"))
	t.Cleanup(func() { p.Signal(syscall.SIGQUIT) })
	p.WaitLine("database system is ready to accept connections")
	return p, address
}

func TestHealthOfPostgres(t *testing.T) {
	for _, tt := range []struct{ name, method string }{
		{"any user is let in", "trust"},
		{"a password is wanted", "scram-sha-256"},
		{"the user is refused", "none"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, address := startPostgres(t, tt.method)
			mark := p.Mark()
			for range 10 {
				if got := probed(t, preset(t, health.PresetPostgres, address), patience); got != "" {
					t.Errorf("got %q, want a pass", got)
				}
			}
			for _, line := range p.Lines(mark) {
				if tt.method != "none" { // which PostgreSQL logs, whoever asks
					t.Errorf("the server logged %q", line.Text)
				}
			}
		})
	}
	t.Run("shutting down", func(t *testing.T) {
		p, address := startPostgres(t, "trust")
		session, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer session.Close()
		// A session that is there, so that the smart shutdown waits for it.
		if _, err := session.Write(preset(t, health.PresetPostgres, address).Send); err != nil {
			t.Fatal(err)
		}
		if _, err := session.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		mark := p.Mark()
		p.Signal(syscall.SIGTERM)
		p.WaitLineAfter(mark, "received smart shutdown request")
		got := probed(t, preset(t, health.PresetPostgres, address), patience)
		if !strings.HasPrefix(got, "read EOF after ") || !strings.Contains(got, "57P03") {
			t.Errorf("got %q, want the server's answer with 57P03", got)
		}
	})
	t.Run("gone", func(t *testing.T) {
		if got := probed(t, preset(t, health.PresetPostgres, lab.FreeAddr(t)), patience); got != "connect: connection refused" {
			t.Errorf("got %q", got)
		}
	})
}

func TestHealthOfRedis(t *testing.T) {
	lab.Require(t, "redis-server", "redis-server")
	for _, tt := range []struct {
		name string
		args []string
		want string // its beginning
	}{
		{"open", nil, ""},
		{"a password is wanted", []string{"--requirepass", "secret"}, ""},
		{"the user may not ping", []string{"--user", "default", "on", "nopass", "~*", "+@all", "-ping"}, ""},
		{
			"its master is gone",
			[]string{"--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "no"},
			`read EOF after `,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := lab.FreeAddr(t)
			_, port, _ := net.SplitHostPort(address)
			args := append([]string{"--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"}, tt.args...)
			p := lab.Start(t, lab.Command{Path: "redis-server", Args: args})
			p.WaitLine("Ready to accept connections")
			got := probed(t, preset(t, health.PresetRedis, address), patience)
			if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if tt.want != "" && !strings.Contains(got, "-MASTERDOWN") {
				t.Errorf("got %q, want the server's own words", got)
			}
		})
	}
}
