package peer_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/benchmarks/internal/peer"
)

func setup(names ...string) peer.Setup {
	return peer.Setup{
		Dir: "/tmp/x", Listen: "127.0.0.1:8443", Backend: "127.0.0.1:9000", User: "root", Names: names, Certificate: "/tmp/x/c.pem",
	}
}

func find(t *testing.T, name string, environ ...string) peer.Peer {
	t.Helper()
	all, err := peer.All(nil, environ)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no peer %q", name)
	return peer.Peer{}
}

// TestConfigure looks for what makes the comparison fair: the same addresses, names, workers and cipher suite for all.
func TestConfigure(t *testing.T) {
	for name, c := range map[string]struct {
		pass, terminate []string // each must stand in the command line or in a file
	}{
		"limit":    {pass: []string{"8443", "9000", "2"}},
		"tcpproxy": {pass: []string{"127.0.0.1:8443", "a.test", "127.0.0.1:9000"}},
		"snicket": {
			pass:      []string{`address = "127.0.0.1:8443"`, `"a.test"`, `backends = ["127.0.0.1:9000"]`, `access = "/tmp/x/access.log"`, "max_hellos_per_ip"},
			terminate: []string{`mode = "terminate"`, `certificates = ["/tmp/x/c.pem"]`},
		},
		"haproxy": {
			pass:      []string{"nbthread 2", "bind 127.0.0.1:8443\n", "option splice-auto", "req.ssl_sni -i a.test", "server b1 127.0.0.1:9000 check"},
			terminate: []string{"ssl crt /tmp/x/c.pem", "TLS_AES_128_GCM_SHA256"},
		},
		"nginx": {
			pass:      []string{"worker_processes 2;", "listen 127.0.0.1:8443 reuseport", "ssl_preread on;", "a.test bench;", "server 127.0.0.1:9000;"},
			terminate: []string{"listen 127.0.0.1:8443 ssl reuseport", "ssl_certificate_key /tmp/x/c.pem;", "TLS_AES_128_GCM_SHA256"},
		},
		"sniproxy": {pass: []string{"listener 127.0.0.1:8443", `^a\.test$ 127.0.0.1:9000`}},
		"hitch":    {terminate: []string{`frontend = "[127.0.0.1]:8443"`, `backend = "[127.0.0.1]:9000"`, "workers = 2", "TLS_AES_128_GCM_SHA256"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := find(t, name)
			for terminate, want := range map[bool][]string{false: c.pass, true: c.terminate} {
				s := setup("a.test")
				s.Terminate = terminate
				if got := p.Can(s, false); got != (want != nil) {
					t.Errorf("terminate %v: got able %v, want %v", terminate, got, want != nil)
				}
				if want == nil {
					continue
				}
				command := p.Configure("/bin/p", s)
				all := strings.Join(command.Args, "\n")
				for _, text := range command.Files {
					all += "\n" + text
				}
				if command.Args[0] != "/bin/p" {
					t.Errorf("got program %q, want /bin/p", command.Args[0])
				}
				for _, text := range want {
					if !strings.Contains(all, text) {
						t.Errorf("terminate %v: no %q in\n%s", terminate, text, all)
					}
				}
			}
		})
	}
}

func TestConfigureManyNames(t *testing.T) {
	for _, name := range []string{"snicket", "haproxy", "nginx", "sniproxy"} {
		c := find(t, name).Configure("p", setup("a.test", "b.test", "c.test"))
		all := ""
		for _, text := range c.Files {
			all += text
		}
		for _, host := range []string{"a", "b", "c"} {
			if !strings.Contains(all, host+".test") && !strings.Contains(all, host+`\.test`) {
				t.Errorf("%s: no %s.test in\n%s", name, host, all)
			}
		}
	}
}

func TestCan(t *testing.T) {
	terminate := setup("a.test")
	terminate.Terminate = true
	many := setup("a.test", "b.test")
	for _, c := range []struct {
		peer   string
		setup  peer.Setup
		hybrid bool
		want   bool
	}{
		{"limit", setup("a.test"), false, true},
		{"limit", many, false, false},
		{"limit", terminate, false, false},
		{"hitch", setup("a.test"), false, false},
		{"nginx", many, false, true},
		{"nginx", terminate, true, false},
		{"snicket", terminate, true, true},
	} {
		if got := find(t, c.peer).Can(c.setup, c.hybrid); got != c.want {
			t.Errorf("%s, %d names, terminate %v, hybrid %v: got %v, want %v",
				c.peer, len(c.setup.Names), c.setup.Terminate, c.hybrid, got, c.want)
		}
	}
}

func TestProgramFromEnvironment(t *testing.T) {
	if got := find(t, "haproxy", "RIG_BIN_HAPROXY=/opt/haproxy-3.4/haproxy").Program; got != "/opt/haproxy-3.4/haproxy" {
		t.Errorf("got %q", got)
	}
}

func TestForeign(t *testing.T) {
	file := filepath.Join(t.TempDir(), "template")
	if err := os.WriteFile(file, []byte("from {listen_host} {listen_port} to {backend}: {name} {certificate}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := find(t, "mine",
		"RIG_PEER_MINE=/opt/mine -n {workers} -c {config} {dir}", "RIG_CONFIG_MINE="+file, "RIG_CAN_MINE=pass")
	if !p.Can(setup("a.test"), false) {
		t.Error("cannot pass through, want it to")
	}
	terminate := setup("a.test")
	terminate.Terminate = true
	if p.Can(terminate, false) {
		t.Error("can terminate, want not")
	}
	c := p.Configure(p.Program, setup("a.test"))
	if got, want := strings.Join(c.Args, " "), "/opt/mine -n 2 -c /tmp/x/config /tmp/x"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := c.Files["config"], "from 127.0.0.1 8443 to 127.0.0.1:9000: a.test /tmp/x/c.pem\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestForeignErrors(t *testing.T) {
	for name, environ := range map[string][]string{
		"no program":    {"RIG_PEER_MINE= "},
		"no such file":  {"RIG_PEER_MINE=mine", "RIG_CONFIG_MINE=/does/not/exist"},
		"a name in use": {"RIG_PEER_NGINX=nginx"},
	} {
		if _, err := peer.All(nil, environ); err == nil {
			t.Errorf("%s: got no error", name)
		}
	}
}
