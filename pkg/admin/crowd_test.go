package admin_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
)

// soon is how long an answer may take that must not wait for a client's time to be over,
// which is 30 s for one that does not read, and never for one that follows.
const soon = 20 * time.Second

// crowded is a server at a socket and at an address, with routes that nobody takes in at
// once.
type crowded struct {
	t               *testing.T
	socket, address string
}

func serveCrowd(t *testing.T, bytes int, status func() admin.Status) *crowded {
	t.Helper()
	lab.Leaks(t)
	if status == nil {
		status = func() admin.Status { return admin.Status{State: admin.Running} }
	}
	s := admin.New(admin.Options{
		Log: slog.New(slog.DiscardHandler), Events: admin.NewEvents(), NotReady: func() []string { return nil },
		Metrics:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "some 1\n") }),
		Status:   status,
		Routes:   func() []admin.Route { return []admin.Route{{Name: strings.Repeat("r", bytes)}} },
		Backends: func() []admin.Backend { return nil }, Refused: func() []admin.Refusal { return nil },
		Certificates: func() []admin.Certificate { return nil },
	})
	c := &crowded{t, filepath.Join(t.TempDir(), "admin.sock"), lab.FreeAddr(t)}
	settings := socketAt(c.socket)
	settings.Address = c.address
	place(t, s, settings)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

// from connects to the address as somebody at another loopback address, or to the socket.
func (c *crowded) from(ip string) net.Conn {
	c.t.Helper()
	network, address, d := "tcp", c.address, net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	if ip == "socket" {
		network, address, d.LocalAddr = "unix", c.socket, nil
	}
	conn, err := d.DialContext(c.t.Context(), network, address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	return conn
}

// send sends a request, and waits for nothing.
func send(t *testing.T, c net.Conn, method, path, more string) {
	t.Helper()
	if _, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", method, path, more); err != nil {
		t.Fatal(err)
	}
}

// hear reads the head of an answer, and none of what follows.
func hear(t *testing.T, c net.Conn) *http.Response {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(soon)); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReaderSize(c, 16), nil)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// answers makes a request on a connection of its own.
func (c *crowded) answers(ip, path string) {
	c.t.Helper()
	conn := c.from(ip)
	send(c.t, conn, "GET", path, "Connection: close\r\n")
	res := hear(c.t, conn)
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
		c.t.Errorf("%s from %s: got %s, %v", path, ip, res.Status, err)
	}
}

// Whatever clients over TCP hold, and for as long as they may: the socket answers, as does
// the address those who hold nothing, and those who hold all they may.
func TestNobodyIsLockedOut(t *testing.T) {
	const large = 6 << 20 // more than sockets have room for
	for name, hold := range map[string]func(c *crowded, ip string){
		"silent":        func(c *crowded, ip string) { c.from(ip) },
		"half a header": func(c *crowded, ip string) { fmt.Fprint(c.from(ip), "GET /metrics HTTP/1.1\r\nHo") },
		"half a body":   func(c *crowded, ip string) { send(c.t, c.from(ip), "GET", "/v1/status", "Content-Length: 100\r\n") },
		"kept alive": func(c *crowded, ip string) {
			conn := c.from(ip)
			send(c.t, conn, "GET", "/healthz", "")
			hear(c.t, conn)
		},
		"frames": func(c *crowded, ip string) {
			conn := c.from(ip)
			send(c.t, conn, "GET", "/v1/live", "")
			hear(c.t, conn)
		},
		"events": func(c *crowded, ip string) {
			conn := c.from(ip)
			send(c.t, conn, "GET", "/v1/events?follow=true", "")
			hear(c.t, conn)
		},
		"does not read": func(c *crowded, ip string) {
			conn := c.from(ip)
			send(c.t, conn, "GET", "/v1/routes", "")
			hear(c.t, conn)
		},
		"pipelines": func(c *crowded, ip string) {
			conn := c.from(ip)
			for range 20 {
				send(c.t, conn, "GET", "/v1/routes", "")
			}
			hear(c.t, conn)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := serveCrowd(t, large, nil)
			for range 17 { // more than one address may have, and both together than there are
				hold(c, "127.0.0.1")
				hold(c, "127.0.0.2")
			}
			for _, ip := range []string{"socket", "127.0.0.3", "127.0.0.1"} {
				for _, path := range []string{"/healthz", "/metrics", "/v1/status"} {
					c.answers(ip, path)
				}
			}
		})
	}
}

// Answers that nobody takes are kept up to a bound: the one that waits longest gives way.
func TestAnswersThatNobodyTakes(t *testing.T) {
	const size = 24 << 20 // three do not fit
	c := serveCrowd(t, size, nil)
	var conns []net.Conn
	var heads []*http.Response
	for range 3 {
		conn := c.from("127.0.0.1")
		send(t, conn, "GET", "/v1/routes", "")
		conns, heads = append(conns, conn), append(heads, hear(t, conn))
	}
	if n, err := io.Copy(io.Discard, heads[0].Body); err == nil || n >= size {
		t.Errorf("got %d bytes, %v of the first answer, want it cut off", n, err)
	}
	for i := 1; i < 3; i++ {
		if n, err := io.Copy(io.Discard, heads[i].Body); err != nil || n < size {
			t.Errorf("got %d bytes, %v of answer %d, want all", n, err, i)
		}
		conns[i].Close()
	}
}

// One address has two answers made at a time, however many it asks for, and those that wait
// let others pass.
func TestTurnsAreShared(t *testing.T) {
	begun, end := make(chan struct{}, 16), make(chan struct{})
	var making, most atomic.Int32
	c := serveCrowd(t, 1, func() admin.Status {
		n := making.Add(1)
		for was := most.Load(); n > was; was = most.Load() {
			if most.CompareAndSwap(was, n) {
				break
			}
		}
		begun <- struct{}{}
		<-end
		making.Add(-1)
		return admin.Status{State: admin.Running}
	})
	var asked []net.Conn
	for _, ip := range []string{"127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2"} {
		conn := c.from(ip)
		send(t, conn, "GET", "/v1/status", "")
		asked = append(asked, conn)
	}
	for range 3 { // two of the one, and the other
		<-begun
	}
	c.answers("127.0.0.1", "/metrics") // has turns of its own
	close(end)
	for _, conn := range asked {
		if res := hear(t, conn); res.StatusCode != http.StatusOK {
			t.Errorf("got %s", res.Status)
		}
	}
	if got := most.Load(); got != 3 {
		t.Errorf("got %d answers made at a time, want 3: two of one address, and one of another", got)
	}
}

// What has no end is for those who would hear of it, and whose leaving is heard of.
func TestStreamsOfNothing(t *testing.T) {
	c := serveCrowd(t, 1, nil)
	for range 20 { // more than there are seats
		for _, path := range []string{"/v1/live", "/v1/events?follow=true"} {
			head := c.from("127.0.0.1")
			send(t, head, "HEAD", path, "")
			send(t, head, "GET", "/healthz", "") // behind it, once it is over
			if res := hear(t, head); res.StatusCode != http.StatusOK {
				t.Errorf("HEAD %s: got %s", path, res.Status)
			}
			body := c.from("127.0.0.1")
			send(t, body, "GET", path, "Content-Length: 9\r\n")
			if res := hear(t, body); res.StatusCode != http.StatusBadRequest {
				t.Errorf("%s with a body: got %s, want 400", path, res.Status)
			}
		}
	}
}

// Answers are kept from pages of other origins, and from being taken for anything else.
func TestAnswersAreGuarded(t *testing.T) {
	c := serveCrowd(t, 1, nil)
	for _, path := range []string{"/", "/dashboard/view.js", "/v1/status", "/v1/refused", "/v1/live?frames=1", "/metrics", "/healthz", "/none"} {
		conn := c.from("127.0.0.1")
		send(t, conn, "GET", path, "Origin: http://evil.example\r\n")
		res := hear(t, conn)
		for field, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin", "Access-Control-Allow-Origin": "",
		} {
			if got := res.Header.Get(field); got != want {
				t.Errorf("%s: got %s %q, want %q", path, field, got, want)
			}
		}
	}
}

// Over TCP nothing but GET and HEAD is answered, whatever the path.
func TestAddressChangesNothing(t *testing.T) {
	c := serveCrowd(t, 1, nil)
	for _, path := range []string{
		"/v1/reload", "/v1/upgrade", "/v1/sessions/0123456789abcdef", "/v1/pools/web/backends/b1/state", "/v1/pools/web/backends/b1/weight",
		"/v1/config", "/v1/config/difference", "/debug/pprof/", "/debug/pprof/profile", "/debug/pprof/cmdline", "/v1/../v1/reload", "//v1/reload",
		"http://localhost/v1/reload",
	} {
		for _, method := range []string{"POST", "PUT", "DELETE", "GET", "PATCH", "CONNECT"} {
			conn := c.from("127.0.0.1")
			send(t, conn, method, path, "X-HTTP-Method-Override: POST\r\n")
			if res := hear(t, conn); res.StatusCode == http.StatusOK || res.StatusCode >= 500 {
				t.Errorf("%s %s: got %s, want a refusal", method, path, res.Status)
			}
		}
	}
}
