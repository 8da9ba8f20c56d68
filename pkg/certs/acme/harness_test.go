package acme_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/internal/lab/pebble"
	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/certs/acme"
)

// box holds what was delivered last, and a log, for a test to wait on.
type box struct {
	mu      sync.Mutex // guards the fields below
	certs   []*certs.Certificate
	times   int
	text    bytes.Buffer
	changed chan struct{} // closed at the next change
}

func newBox() *box { return &box{changed: make(chan struct{})} }

func (b *box) change(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *box) deliver(all []*certs.Certificate) {
	b.change(func() { b.certs, b.times = all, b.times+1 })
}

func (b *box) Write(p []byte) (int, error) {
	b.change(func() { b.text.Write(p) })
	return len(p), nil
}

// wait waits until ok says so of what is in the box.
func (b *box) wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	b.waitFor(t, lab.Patience, what, ok)
}

func (b *box) waitFor(t testing.TB, patience time.Duration, what string, ok func() bool) {
	t.Helper()
	late := time.After(patience)
	for {
		b.mu.Lock()
		done, changed := ok(), b.changed
		b.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-late:
			t.Fatalf("never: %s; log:\n%s", what, b.log())
		}
	}
}

func (b *box) log() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// logged waits for a text in the log.
func (b *box) logged(t testing.TB, text string) {
	t.Helper()
	b.wait(t, "log of "+text, func() bool { return bytes.Contains(b.text.Bytes(), []byte(text)) })
}

// find is the certificate for a host; nil: none.
func (b *box) find(host string) *certs.Certificate {
	for _, c := range b.certs {
		if slices.Contains(c.Names, host) {
			return c
		}
	}
	return nil
}

// certificate waits for one for host.
func (b *box) certificate(t testing.TB, host string) (c *certs.Certificate) {
	t.Helper()
	b.wait(t, "certificate of "+host, func() bool {
		c = b.find(host)
		return c != nil
	})
	return c
}

// options are those of a Manager that asks ca.
func options(ca *pebble.Authority, dir string, b *box) acme.Options {
	return acme.Options{
		Directory: ca.Directory(), Roots: ca.TransportRoots(), Storage: dir, Deliver: b.deliver,
		Log: slog.New(slog.NewTextHandler(b, nil)),
	}
}

// manager runs until the test ends.
func manager(t testing.TB, o acme.Options) *acme.Manager {
	t.Helper()
	m, err := acme.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// edge serves port 443: clients that validate get what answer has, all others are turned away.
func edge(t testing.TB, answer func(host string) *tls.Certificate) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		NextProtos: []string{acme.Protocol},
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if !slices.Equal(h.SupportedProtos, []string{acme.Protocol}) {
				return nil, fmt.Errorf("not a validation: %q", h.SupportedProtos)
			}
			return answer(h.ServerName), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, func(c net.Conn) { _ = c.(*tls.Conn).Handshake() })
	return l.Addr().String()
}

// plainEdge serves port 80.
func plainEdge(t testing.TB, m *acme.Manager) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		dir, token := path.Split(r.URL.Path)
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		answer, ok := m.HTTP01(host, token)
		if dir != "/.well-known/acme-challenge/" || !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, answer)
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	return l.Addr().String()
}

func serve(t testing.TB, l net.Listener, handle func(net.Conn)) {
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				_ = c.SetDeadline(time.Now().Add(lab.Patience))
				handle(c)
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		running.Wait()
	})
}
