//go:build e2e

package e2e_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/internal/lab/pebble"
)

// TestACMEFleet has one balancer ask for a certificate and another, which shares its storage, be the one that the
// authority meets on port 443: that answers, and both serve what comes of it, as one does that starts later while the
// authority is away. openssl looks.
func TestACMEFleet(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	roots := ca.WriteRoots()
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	storage := t.TempDir()
	transport := ca.WriteTransportCA()
	config := func(addr string) string {
		return listener(addr) + "[[routes]]\nhosts = [\"a.test\"]\nmode = \"terminate\"\n" +
			fmt.Sprintf("backends = [%q]\n[routes.tls]\nacme = true\n", echo.Addr()) +
			fmt.Sprintf("[acme]\ndirectory = %q\nca = %q\nstorage = %q\n", ca.Directory(), transport, storage)
	}
	addrs := [3]string{lab.FreeAddr(t), lab.FreeAddr(t), lab.FreeAddr(t)}
	port443, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { port443.Close() })
	ca.ServeTLS(port443.Addr().String())

	asking := run(t, config(addrs[0]))
	port443.(*net.TCPListener).SetDeadline(time.Now().Add(lab.Patience))
	first, err := port443.Accept() // the order is under way, and its lock is held
	if err != nil {
		t.Fatal(err)
	}
	answering := run(t, config(addrs[1]))
	var relays sync.WaitGroup
	relays.Go(func() {
		for c := first; err == nil; c, err = port443.Accept() {
			relays.Go(func() { join(c, addrs[1]) })
		}
	})
	asking.WaitLine(`msg="certificate obtained" host=a.test`)
	port443.Close()
	relays.Wait()
	answering.WaitLine(`msg="certificate obtained" host=a.test`) // it waited for the other's lock
	answering.waitRecord(0, record{"outcome": "acme", "sni": "a.test"})
	if got := asking.records(0); len(got) != 0 {
		t.Errorf("the one that asks has been met: %v", got)
	}
	ca.Down(true)
	run(t, config(addrs[2]))
	serials := map[string]bool{}
	for _, addr := range addrs {
		serials[serialAt(t, addr, roots)] = true
	}
	if len(serials) != 1 || ca.Orders() != 1 {
		t.Errorf("%d certificates of %d orders, want one", len(serials), ca.Orders())
	}
}

// join passes both ways between c and addr until both have ended.
func join(c net.Conn, addr string) {
	defer c.Close()
	to, err := net.DialTimeout("tcp", addr, lab.Patience)
	if err != nil {
		return
	}
	defer to.Close()
	up := make(chan struct{})
	go func() { // waited for below
		defer close(up)
		io.Copy(to, c)
		to.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(c, to)
	c.(*net.TCPConn).CloseWrite()
	<-up
}

// serialAt is the serial number of the certificate for a.test at addr, which openssl must find good.
func serialAt(t *testing.T, addr, roots string) string {
	t.Helper()
	out := mustTool(t, "", "openssl", "s_client", "-connect", addr, "-servername", "a.test", "-CAfile", roots,
		"-verify_return_error", "-verify_hostname", "a.test")
	if !strings.Contains(out, "Verify return code: 0 (ok)") {
		t.Fatalf("%s: %s", addr, out)
	}
	_, pem, _ := strings.Cut(out, "-----BEGIN CERTIFICATE-----")
	pem, _, _ = strings.Cut(pem, "-----END CERTIFICATE-----")
	return mustTool(t, "-----BEGIN CERTIFICATE-----"+pem+"-----END CERTIFICATE-----\n", "openssl", "x509", "-noout", "-serial")
}
