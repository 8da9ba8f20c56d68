//go:build e2e

package e2e_test

import (
	"path/filepath"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// startNginx runs nginx with the given top-level blocks (events is there already) and waits until it accepts on every
// address.
func startNginx(t *testing.T, blocks string, addrs ...string) *lab.Process {
	t.Helper()
	dir := t.TempDir()
	conf := `
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
user root;
daemon off;
worker_processes 1;
error_log stderr warn;
pid ` + dir + `/nginx.pid;
events { worker_connections 4000; }
` + blocks
	file := lab.WriteFile(t, filepath.Join(dir, "nginx.conf"), []byte(conf))
	lab.Require(t, "nginx", "nginx libnginx-mod-stream")
	p := lab.Start(t, lab.Command{Path: "nginx", Args: []string{"-e", "stderr", "-p", dir, "-c", file}})
	for _, addr := range addrs {
		p.WaitReachable(addr)
	}
	return p
}

// startHAProxy runs haproxy with a configuration and waits until it accepts on every address.
func startHAProxy(t *testing.T, conf string, addrs ...string) *lab.Process {
	t.Helper()
	file := lab.WriteFile(t, filepath.Join(t.TempDir(), "haproxy.cfg"), []byte(conf))
	lab.Require(t, "haproxy", "haproxy")
	p := lab.Start(t, lab.Command{Path: "haproxy", Args: []string{"-db", "-f", file}})
	for _, addr := range addrs {
		p.WaitReachable(addr)
	}
	return p
}

// startSNIProxy runs sniproxy with a configuration and waits until it accepts on every address.
func startSNIProxy(t *testing.T, conf string, addrs ...string) *lab.Process {
	t.Helper()
	file := lab.WriteFile(t, filepath.Join(t.TempDir(), "sniproxy.conf"), []byte("user root\nerror_log { filename /dev/stderr }\n"+conf))
	lab.Require(t, "sniproxy", "sniproxy")
	p := lab.Start(t, lab.Command{Path: "sniproxy", Args: []string{"-f", "-c", file}})
	for _, addr := range addrs {
		p.WaitReachable(addr)
	}
	return p
}
