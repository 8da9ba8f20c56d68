package server_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/server"
)

func TestProbe(t *testing.T) {
	a := lab.NewAuthority(t, "root")
	soon := a.Issue(t, lab.Certificate{Names: []string{"b.test"}, NotAfter: certificateTime(36)})
	echo := lab.Serve(t, lab.Echo(), lab.Options{TLS: &tls.Config{Certificates: []tls.Certificate{soon}}})
	gone := lab.Serve(t, lab.Echo(), lab.Options{})
	gone.Close()
	names := new(book)
	names.set("app.test", "127.0.0.1")
	path := filepath.Join(t.TempDir(), "snicket.toml")
	lab.WriteFile(t, path, fmt.Appendf(nil, `
[[routes]]
hosts = ["a.test"]
pool  = "web"
[[routes]]
hosts = ["b.test"]
pool  = "off"
[pools.web]
backends = [%q, %q, "app.test:%d", "none.test:443"]
health   = { kind = "tls", timeout = "30s" }
[pools.off]
backends = [%q]
health   = { enabled = false }
`, echo.Addr(), gone.Addr(), echo.AddrPort().Port(), gone.Addr()))
	verdicts, err := server.Probe(t.Context(), path, names.lookup)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct {
		address, why string
		probed       bool
	}{
		"off/" + gone.Addr(): {address: gone.Addr()},
		"web/" + echo.Addr(): {address: echo.Addr(), probed: true},
		"web/" + gone.Addr(): {address: gone.Addr(), probed: true, why: "connect: connection refused"},
		fmt.Sprintf("web/app.test:%d@127.0.0.1", echo.AddrPort().Port()): {address: echo.Addr(), probed: true},
		"web/none.test:443": {probed: true, why: "none.test does not resolve: no such host"},
	}
	for _, v := range verdicts {
		name := v.Pool + "/" + v.Backend
		why := ""
		if v.Err != nil {
			why = v.Err.Error()
		}
		if w, ok := want[name]; !ok || v.Address != w.address || v.Probed != w.probed || why != w.why {
			t.Errorf("%s: got address %q, probed %t, %q; want %+v", name, v.Address, v.Probed, why, w)
		}
		warned := strings.Join(v.Warnings, "; ")
		if ready := v.Probed && v.Err == nil; ready != (warned == "certificate expires in 1 day; certificate is valid for b.test, not for a.test") {
			t.Errorf("%s: got warnings %q", name, warned)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("%s: got no verdict", name)
	}
}

// TestProbeAgent has agents whose backends work and who wish something: a backend that
// will get no session is not said to be ready.
func TestProbeAgent(t *testing.T) {
	for _, tt := range []struct {
		line, agent string
		draining    bool
		why         string
	}{
		{line: "up ready 100%"},
		{line: "up 50%", agent: "50%"},
		{line: "0%", agent: "0%"},
		{line: "drain", agent: "drain", draining: true},
		{line: "maint 20%", agent: "maint 20%", draining: true},
		{line: "down # no disk", why: "agent says down: no disk"},
	} {
		t.Run(tt.line, func(t *testing.T) {
			agent := lab.Serve(t, func(c *lab.Conn) {
				_, _ = io.WriteString(c, tt.line+"\n") // the probe says what came
			}, lab.Options{})
			path := filepath.Join(t.TempDir(), "snicket.toml")
			lab.WriteFile(t, path, fmt.Appendf(nil, `
[[routes]]
hosts = ["a.test"]
pool  = "web"
[pools.web]
backends = ["127.0.0.1:1"]
health   = { kind = "agent", port = %d, timeout = "30s" }
`, agent.AddrPort().Port()))
			verdicts, err := server.Probe(t.Context(), path, nil)
			if err != nil || len(verdicts) != 1 {
				t.Fatalf("got %v, %v; want one verdict", verdicts, err)
			}
			v, why := verdicts[0], ""
			if v.Err != nil {
				why = v.Err.Error()
			}
			if v.Agent != tt.agent || v.Draining != tt.draining || why != tt.why {
				t.Errorf("got agent %q, draining %t, %q; want %q, %t, %q", v.Agent, v.Draining, why, tt.agent, tt.draining, tt.why)
			}
		})
	}
}

func TestProbeConfiguration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "snicket.toml")
	lab.WriteFile(t, path, []byte("[[routes]]\nhosts = [\"a.test\"]\n"))
	_, err := server.Probe(t.Context(), path, nil)
	if bad, ok := errors.AsType[*server.ConfigError](err); !ok || !strings.Contains(bad.Error(), "neither pool nor backends") {
		t.Errorf("got %v, want what is wrong with the file", err)
	}
}
