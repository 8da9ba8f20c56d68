package server_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/internal/lab/pebble"
	"github.com/snicketlb/snicket/pkg/server"
)

// acmeFile is a configuration whose hosts have their certificates from ca.
func acmeFile(ca *pebble.Authority, storage, backend string, hosts ...string) string {
	return fmt.Sprintf(`
[[routes]]
name = "sealed"
hosts = ["%s"]
backends = [%q]
mode = "terminate"
[routes.tls]
acme = true
[acme]
directory = %q
ca = %q
storage = %q
`, strings.Join(hosts, `", "`), backend, ca.Directory(), ca.WriteTransportCA(), storage)
}

// dialACME shakes hands with name, whose certificate ca has issued.
func (r *running) dialACME(ca *pebble.Authority, name string) (*tls.Conn, error) {
	return tls.DialWithDialer(&net.Dialer{Timeout: lab.Patience}, "tcp", r.address, ca.Client(name))
}

// sessionACME is a session that must come about, to an echo backend.
func (r *running) sessionACME(ca *pebble.Authority, name string) *tls.Conn {
	r.t.Helper()
	c, err := r.dialACME(ca, name)
	if err != nil {
		r.t.Fatalf("%s: %v", name, err)
	}
	r.t.Cleanup(func() { c.Close() })
	r.echo(c)
	return c
}

// served waits until a host has its first certificate.
func (r *running) served(host string) {
	r.t.Helper()
	r.log.wait(r.t, `msg="certificate obtained" host=`+host, 1)
}

// TestACME follows a host from its first certificate over reloads to a restart: the
// authority validates it on the port that serves it, is asked once for each host, and
// has one account.
func TestACME(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	storage := filepath.Join(t.TempDir(), "state")
	text := func(hosts ...string) string { return acmeFile(ca, storage, echo.Addr(), hosts...) }
	r := start(t, nil, passthrough("other.test", echo.Addr()))
	ca.ServeTLS(r.address)
	r.reload(1, text("a.test"))
	r.log.wait(t, `msg="certificates are asked for" hosts=a.test`, 1)
	r.served("a.test")
	hangUp(t, r.sessionACME(ca, "a.test"))
	r.access.wait(t, `route=sealed mode=terminate pool=- .*outcome=acme .*ended_by=snicket`, 1)

	r.reload(2, text("a.test", "c.test"))
	hangUp(t, r.sessionACME(ca, "a.test"))
	r.served("c.test")
	orders, accounts := ca.Orders(), ca.Accounts()
	if accounts != 1 {
		t.Errorf("%d accounts, want 1", accounts)
	}
	r.reload(3, text("c.test"))
	r.refused(lab.NewAuthority(t, "none"), "a.test", "unrecognized name")
	r.reload(4, text("a.test", "c.test"))
	hangUp(t, r.sessionACME(ca, "a.test"))

	again := start(t, nil, text("a.test", "c.test"))
	for _, host := range []string{"a.test", "c.test"} { // with the first handshake
		hangUp(t, again.sessionACME(ca, host))
	}
	if got := ca.Orders(); got != orders {
		t.Errorf("%d orders, want %d: none since", got, orders)
	}
	if got := ca.Accounts(); got != accounts {
		t.Errorf("%d accounts, want %d", got, accounts)
	}
}

// TestACMERenewal has clients shake hands without a pause while certificates are renewed
// under them: none fails, and each new certificate is met.
func TestACMERenewal(t *testing.T) {
	const (
		every    = time.Second
		renewals = 3
		clients  = 4
	)
	ca := pebble.Start(t, pebble.Options{RenewAtOnce: true})
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	o := server.Options{}
	o.RenewEvery(every)
	r := startBy(t, o, preamble+passthrough("other.test", echo.Addr()))
	ca.ServeTLS(r.address)
	r.reload(1, acmeFile(ca, t.TempDir(), echo.Addr(), "a.test"))
	r.served("a.test")

	serials := make(chan string, 1000)
	stop := make(chan struct{})
	var handshakes atomic.Int64
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			last := ""
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := r.dialACME(ca, "a.test")
				if err != nil {
					t.Errorf("handshake: %v", err)
					return
				}
				handshakes.Add(1)
				if serial := c.ConnectionState().PeerCertificates[0].SerialNumber.String(); serial != last {
					last = serial
					serials <- serial
				}
				c.Close()
			}
		})
	}
	seen := map[string]bool{}
	for late := time.After(2 * lab.Patience); len(seen) <= renewals && !t.Failed(); {
		select {
		case serial := <-serials:
			seen[serial] = true
		case <-late:
			t.Errorf("%d certificates seen, want more than %d:\n%s", len(seen), renewals, r.log)
		}
	}
	close(stop)
	running.Wait()
	t.Logf("%d certificates, %d orders, %d handshakes", len(seen), ca.Orders(), handshakes.Load())
}

// TestACMESettings holds that other settings are another account, and that what there
// is serves on while the authority does not answer.
func TestACMESettings(t *testing.T) {
	ca, other := pebble.Start(t, pebble.Options{}), pebble.Start(t, pebble.Options{})
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	storage := t.TempDir()
	r := start(t, nil, passthrough("other.test", echo.Addr()))
	ca.ServeTLS(r.address)
	other.ServeTLS(r.address)
	r.reload(1, acmeFile(ca, storage, echo.Addr(), "a.test"))
	r.served("a.test")

	other.Down(true)
	r.reload(2, acmeFile(other, storage, echo.Addr(), "a.test", "b.test"))
	r.log.wait(t, `msg="certificate not obtained" host=b.test`, 1)
	hangUp(t, r.sessionACME(ca, "a.test"))
	r.refused(lab.NewAuthority(t, "none"), "b.test", "unrecognized name")
	r.access.wait(t, `sni="b.test" .*outcome=no-certificate`, 1)
	r.reload(3, acmeFile(ca, storage, echo.Addr(), "a.test"))
	hangUp(t, r.sessionACME(ca, "a.test"))
	if got := ca.Orders(); got != 1 {
		t.Errorf("%d orders of the first, want 1: its certificate is in the storage", got)
	}
	r.reload(4, passthrough("a.test", echo.Addr())) // no route wants a certificate any more
	if _, err := os.Stat(storage); err != nil {
		t.Error(err)
	}
}

// TestACMEOverHTTP has a host validated on an http listener, where nobody is led to the
// other port. Other requests of the host are sent to https all the while.
func TestACMEOverHTTP(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	r := start(t, nil, passthrough("other.test", echo.Addr()))
	const plain = "[listeners.http]\naddress = \"127.0.0.2:0\"\nkind = \"http\"\n"
	r.reload(1, plain+passthrough("other.test", echo.Addr()))
	address := r.log.wait(t, `msg=listening listener=http address=(\S+)`, 1)[1]
	ca.ServeHTTP(address)
	r.reload(2, plain+acmeFile(ca, t.TempDir(), echo.Addr(), "a.test"))
	r.served("a.test")
	hangUp(t, r.sessionACME(ca, "a.test"))

	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(lab.Patience))
	res, _ := asks(t, c, bufio.NewReader(c), "a.test")
	if location := res.Header.Get("Location"); res.StatusCode != http.StatusPermanentRedirect || !strings.HasPrefix(location, "https://a.test") {
		t.Errorf("status %d to %q, want 308 to https://a.test", res.StatusCode, location)
	}
}

// TestACMECheck holds that checking a configuration asks nobody and leaves nothing.
func TestACMECheck(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	storage := filepath.Join(t.TempDir(), "state")
	path := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(acmeFile(ca, storage, "127.0.0.1:1", "a.test")))
	_, problems := server.Check(path)
	for _, p := range problems {
		if p.Text != "" && !p.Warning {
			t.Errorf("%v", p)
		}
	}
	if _, err := os.Stat(storage); err == nil {
		t.Error("the storage was made")
	}
	if got := ca.Requests(); got != 0 {
		t.Errorf("%d requests, want none", got)
	}
}
