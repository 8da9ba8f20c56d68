//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// tallyOutcomes counts the outcomes of the records since mark.
func tallyOutcomes(b *balancer, mark int) map[string]int {
	counts := map[string]int{}
	for _, r := range b.records(mark) {
		counts[r["outcome"]]++
	}
	return counts
}

// TestSlowHellos holds 2,000 unfinished hellos, from ten addresses, that never go on. A good client connects
// meanwhile; each slow one ends as hello-timeout, closed without a reset.
func TestSlowHellos(t *testing.T) {
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	b, addr := pass(t, echo.Addr(), "[timeouts]\nhello = \"3s\"\n")
	var slow []*lab.Process
	const each, sources = 200, 10
	for i := range sources {
		slow = append(slow, load(t, "hellos", "-target", addr, "-n", fmt.Sprint(each), "-from", fmt.Sprintf("127.0.1.%d", i+1)))
	}
	for _, p := range slow {
		p.WaitLine("^holding")
	}
	c := dial(t, addr)
	exchangeEcho(t, c, lab.Hello("a.test"))
	c.Close()
	for _, p := range slow {
		if got := result(p); got["closed"] != each {
			t.Errorf("got %v, want %d closed", got, each)
		}
	}
	waitRecords(b, 0, each*sources+1)
	if got := tallyOutcomes(b, 0); got["hello-timeout"] != each*sources || got["ok"] != 1 {
		t.Errorf("got outcomes %v, want %d hello-timeout and 1 ok", got, each*sources)
	}
}

// TestHelloCap keeps one address to its share of unfinished hellos, directly and behind PROXY: the others it opens are
// reset, and another address is untouched.
func TestHelloCap(t *testing.T) {
	for _, proxied := range []bool{false, true} {
		t.Run(fmt.Sprintf("proxied %v", proxied), func(t *testing.T) {
			echo := lab.Serve(t, lab.Echo(), lab.Options{})
			addr := lab.FreeAddr(t)
			accept, header := "", ""
			args := []string{"hellos", "-target", addr, "-n", "200", "-from", "127.0.1.1"}
			if proxied {
				accept, header = "accept_proxy_from = [\"127.0.0.0/8\"]\n", "PROXY TCP4 192.0.2.2 192.0.2.1 4321 443\r\n"
				args = append(args, "-proxy", "192.0.2.1")
			}
			b := run(t, listener(addr)+accept+"[timeouts]\nhello = \"3s\"\n[limits]\nmax_hellos_per_ip = 50\n"+
				passthrough("a.test", "a", []string{echo.Addr()}, "[pools.a.health]", "enabled = false"))
			p := load(t, args...)
			p.WaitLine("^holding")
			from := "127.0.1.2"
			if proxied {
				from = "127.0.1.1" // the peer is the same, the client another
			}
			c := dialFrom(t, from, addr)
			c.Write([]byte(header))
			exchangeEcho(t, c, lab.Hello("a.test"))
			c.Close()
			if got := result(p); got["closed"] != 50 || got["reset"] != 150 {
				t.Errorf("got %v, want 50 closed and 150 reset", got)
			}
			waitRecords(b, 0, 201)
			// Go's dialer tries once more when the reset comes before it has asked for the peer's address: a few more
			// connections than calls may have been refused.
			if got := tallyOutcomes(b, 0); got["hello-timeout"] != 50 || got["over-limit"] < 150 || got["ok"] != 1 {
				t.Errorf("got outcomes %v, want 50 hello-timeout, 150 over-limit and 1 ok", got)
			}
		})
	}
}

// TestHandshakes makes 500 TLS handshakes a second from one address; each is served or refused by a named limit, and
// a good client connects meanwhile.
func TestHandshakes(t *testing.T) {
	e := newEdge(t, lab.Echo(), false, "")
	flood := load(t, "calls", "-target", e.addr, "-sni", "a.test", "-rate", "500", "-for", "4s", "-from", "127.0.1.1",
		"-tls", "-ca", e.edge.WriteCA(t))
	flood.WaitLine("^calling")
	mark := e.Mark()
	e.waitRecord(mark, record{"outcome": "ok"})
	for range 5 {
		if got := ask(t, e.addr, e.edge.Client("a.test"), "hello"); got != "hello" {
			t.Errorf("got %q, want the echo", got)
		}
	}
	counts := result(flood)
	if counts["ok"] == 0 || counts["ok"] != total(counts) {
		t.Errorf("got %v, want every handshake ok: none is above a limit", counts)
	}
}

// TestRate limits one address, directly and behind PROXY: what is above the rate is reset, as rate-limited, and
// another address is untouched.
func TestRate(t *testing.T) {
	for _, proxied := range []bool{false, true} {
		t.Run(fmt.Sprintf("proxied %v", proxied), func(t *testing.T) {
			echo := lab.Serve(t, lab.Echo(), lab.Options{})
			addr := lab.FreeAddr(t)
			accept := ""
			greedy := []string{"calls", "-target", addr, "-sni", "a.test", "-rate", "100", "-for", "3s"}
			modest := []string{"calls", "-target", addr, "-sni", "a.test", "-rate", "5", "-for", "3s"}
			if proxied {
				accept = "accept_proxy_from = [\"127.0.0.0/8\"]\n"
				greedy = append(greedy, "-proxy", "192.0.2.1")
				modest = append(modest, "-proxy", "192.0.2.2")
			} else {
				greedy = append(greedy, "-from", "127.0.1.1")
				modest = append(modest, "-from", "127.0.1.2")
			}
			b := run(t, listener(addr)+accept+"[limits]\nper_ip_rate = \"10/s\"\n"+
				passthrough("a.test", "a", []string{echo.Addr()}, "[pools.a.health]", "enabled = false"))
			one, other := load(t, greedy...), load(t, modest...)
			got, fine := result(one), result(other)
			// A burst of one second's worth and then the rate: 10 + 3 × 10 of 300; ten times wide on top.
			if got["ok"] < 10 || got["ok"] > 100 || got["reset"] < 150 || got["ok"]+got["reset"] != total(got) {
				t.Errorf("the greedy address got %v, want about 40 ok and all others reset", got)
			}
			if fine["ok"] != total(fine) || fine["ok"] == 0 {
				t.Errorf("the modest address got %v, want all ok", fine)
			}
			waitRecords(b, 0, total(got)+total(fine))
			limited := 0
			for _, r := range b.records(0) {
				if r["outcome"] == "rate-limited" {
					limited++
					if want := map[bool]string{false: "127.0.1.1:", true: "192.0.2.1:"}[proxied]; !strings.HasPrefix(r["client"], want) {
						t.Errorf("the wrong client was limited: %v", r)
					}
				}
			}
			if limited < got["reset"] { // the dialer's second tries come on top
				t.Errorf("got %d records of rate-limited, want at least %d", limited, got["reset"])
			}
		})
	}
}

// TestPerAddressConnections holds as many sessions of one address as allowed: the next is reset, and one is let in
// once another has ended.
func TestPerAddressConnections(t *testing.T) {
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	b, addr := pass(t, echo.Addr(), "[limits]\nper_ip_connections = 3\nexcept = [\"127.0.2.0/24\"]\n")
	hello := lab.Hello("a.test")
	first := dialFrom(t, "127.0.1.1", addr)
	exchangeEcho(t, first, hello)
	for range 2 {
		exchangeEcho(t, dialFrom(t, "127.0.1.1", addr), hello)
	}
	// The reset may come before connect has returned, and be its error.
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.1.1")}, Timeout: lab.Patience}
	above, err := d.DialContext(t.Context(), "tcp", addr)
	if err == nil {
		defer above.Close()
		above.SetDeadline(time.Now().Add(lab.Patience))
		above.Write(hello)
		_, err = above.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the fourth session got %v, want a reset", err)
	}
	for range 5 {
		exchangeEcho(t, dialFrom(t, "127.0.2.1", addr), hello) // excepted
	}
	mark := b.Mark()
	first.Close()
	b.waitRecord(mark, record{"client": first.LocalAddr().String(), "outcome": "ok"})
	exchangeEcho(t, dialFrom(t, "127.0.1.1", addr), hello)
}
