//go:build e2e

package discover_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/discover"
)

// dnsmasq is a real server that answers from a hosts file, with a TTL of a second.
type dnsmasq struct {
	*lab.Process
	addr, hosts, conf string
}

func startDnsmasq(t *testing.T) *dnsmasq {
	t.Helper()
	dir := t.TempDir()
	d := &dnsmasq{addr: lab.FreeAddr(t), hosts: filepath.Join(dir, "hosts"), conf: filepath.Join(dir, "dnsmasq.conf")}
	at := netip.MustParseAddrPort(d.addr)
	lab.WriteFile(t, d.conf, fmt.Appendf(nil, `
port=%d
listen-address=%s
bind-interfaces
user=root
pid-file=%s/pid
log-facility=-
no-resolv
no-hosts
addn-hosts=%s
local=/test/
local-ttl=1
cname=www.test,app.test
srv-host=_https._tcp.app.test,app.test,8443,10,5
srv-host=_https._tcp.app.test,db.test,9443,20,7
`, at.Port(), at.Addr(), dir, d.hosts))
	d.write(t, "10.0.0.1 app.test", "10.0.0.2 app.test", "2001:db8::1 app.test", "10.0.0.5 db.test")
	d.start(t)
	return d
}

func (d *dnsmasq) start(t *testing.T) {
	t.Helper()
	lab.Require(t, "dnsmasq", "dnsmasq-base")
	d.Process = lab.Start(t, lab.Command{Path: "dnsmasq", Args: []string{"--keep-in-foreground", "--conf-file=" + d.conf}})
	d.WaitLine(`read .*hosts`)
	d.WaitReachable(d.addr)
}

// write replaces the lines of the hosts file; a running server reads them at reload.
func (d *dnsmasq) write(t *testing.T, lines ...string) {
	t.Helper()
	if err := os.WriteFile(d.hosts, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// watch runs a source that asks d, with this system's own resolv.conf.
func (d *dnsmasq) watch(t *testing.T, s discover.Settings) *run {
	t.Helper()
	s.Resolvers = []netip.AddrPort{netip.MustParseAddrPort(d.addr)}
	r := &run{t: t, reports: make(chan discover.Report)}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	g := discover.NewGroup(func(_ string, rep discover.Report) {
		select {
		case r.reports <- rep:
		case <-ctx.Done():
		}
	})
	g.Update(map[string]discover.Settings{"web": s})
	go func() { g.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return r
}

// until waits for a report of this set and this error ("" for none). What comes before
// may be half of a change, as the families are two questions.
func (r *run) until(wantSet, wantErr string) {
	r.t.Helper()
	for {
		rep := <-r.reports
		var err string
		if rep.Status.Err != nil {
			err = rep.Status.Err.Error()
		}
		if names(rep.Backends) == wantSet && err == wantErr {
			return
		}
		r.t.Logf("passed over: %s, error %q", names(rep.Backends), err)
	}
}

func TestDnsmasqAddresses(t *testing.T) {
	lab.Leaks(t)
	d := startDnsmasq(t)
	r := d.watch(t, discover.Settings{DNS: "www.test.", Port: 443})
	const first = "10.0.0.1:443 10.0.0.2:443 [2001:db8::1]:443"
	r.next(first, "")

	d.write(t, "10.0.0.2 app.test", "10.0.0.3 app.test")
	d.Signal(syscall.SIGHUP)
	r.until("10.0.0.2:443 10.0.0.3:443", "")

	d.write(t, "10.0.0.9 other.test")
	d.Signal(syscall.SIGHUP)
	r.until("10.0.0.2:443 10.0.0.3:443", "no such name or no addresses")

	// 200 addresses do not fit into a datagram.
	var lines, all []string
	for i := range 200 {
		lines = append(lines, fmt.Sprintf("10.1.0.%d app.test", i+1))
		all = append(all, fmt.Sprintf("10.1.0.%d:443", i+1))
	}
	d.write(t, lines...)
	d.Signal(syscall.SIGHUP)
	r.until(strings.Join(all, " "), "")

	// A server that is gone changes nothing, and one that is back counts again.
	d.Kill()
	r.until(strings.Join(all, " "), d.addr+": connection refused")
	d.write(t, "10.0.0.1 app.test")
	d.start(t)
	r.until("10.0.0.1:443", "")
}

func TestDnsmasqSRV(t *testing.T) {
	lab.Leaks(t)
	d := startDnsmasq(t)
	r := d.watch(t, discover.Settings{SRV: "_https._tcp.app.test."})
	rep := r.next("10.0.0.1:8443 10.0.0.2:8443 10.0.0.5:9443 [2001:db8::1]:8443", "")
	if got, want := ranked(rep.Backends), "10.0.0.1:8443/0*5 10.0.0.2:8443/0*5 10.0.0.5:9443/1*7 [2001:db8::1]:8443/0*5"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}
