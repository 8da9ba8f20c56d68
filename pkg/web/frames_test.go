package web_test

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/web"
)

// The types of frames that tests look at (RFC 9113 §6).
const (
	frameData     = 0x0
	frameHeaders  = 0x1
	frameReset    = 0x3
	frameSettings = 0x4
	framePing     = 0x6
	frameGoAway   = 0x7
)

// frames is a client of HTTP/2 that says what no library would.
type frames struct {
	t *testing.T
	net.Conn
}

// frames returns a connection to the edge whose settings, of two bytes for the name and
// four for the value, are sent.
func (e *edge) frames(settings string) *frames {
	e.t.Helper()
	f := &frames{e.t, e.raw("h2")}
	f.begin(settings)
	f.SetReadDeadline(time.Now().Add(lab.Patience))
	return f
}

func (f *frames) begin(settings string) {
	io.WriteString(f, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	f.write(frameSettings, 0, 0, settings)
}

func (f *frames) write(kind, flags byte, stream uint32, payload string) {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	f.Write(append(b, payload...)) // an error: the next read meets it
}

// ask sends a request without a body, by pairs of names and values.
func (f *frames) ask(stream uint32, fields ...string) {
	var b []byte
	all := append([]string{":scheme", "https", ":authority", "www.example.com"}, fields...)
	for i := 0; i < len(all); i += 2 { // literals that are not indexed (RFC 7541 §6.2.2)
		b = append(b, 0, byte(len(all[i])))
		b = append(b, all[i]...)
		b = append(b, byte(len(all[i+1])))
		b = append(b, all[i+1]...)
	}
	f.write(frameHeaders, 0x5, stream, string(b)) // END_STREAM, END_HEADERS
}

// until reads until a frame of one of the kinds, and returns its kind and payload.
func (f *frames) until(kinds ...byte) (byte, string) {
	f.t.Helper()
	for {
		var head [9]byte
		if _, err := io.ReadFull(f, head[:]); err != nil {
			f.t.Fatalf("%v before a frame of %v", err, kinds)
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(f, payload); err != nil {
			f.t.Fatal(err)
		}
		if slices.Contains(kinds, head[3]) {
			return head[3], string(payload)
		}
	}
}

// TestFieldsOfHTTP2: what cannot be said in HTTP/1.1 is refused, and is no failure of a
// backend.
func TestFieldsOfHTTP2(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(tell), false)
	e := newEdge(t, web.NewSite(web.SiteOptions{Pool: b.pool(web.PoolOptions{Shared: true})}))
	for name, fields := range map[string][]string{
		"a target in the method":     {":method", "GET /admin?x=", ":path", "/"},
		"a version behind the query": {":method", "GET", ":path", "/?x HTTP/1.0"},
	} {
		t.Run(name, func(t *testing.T) {
			f := e.frames("")
			defer f.Close()
			f.ask(1, fields...)
			// 8 is the index of ":status: 200" (RFC 7541, appendix A), 12 that of 400.
			if _, block := f.until(frameHeaders); block[0] != 0x80|12 {
				t.Errorf("answered by %q, want 400", block)
			}
			f.Close()
			if got := e.result(); got.Err != nil {
				t.Errorf("%+v, want no failure", got)
			}
		})
	}
	if n := b.balancer.Backends()[0].Total(); n != 0 {
		t.Errorf("%d requests got to the backend", n)
	}
}

// TestClientTakesNothing: a stream whose client gives it no room, and keeps the
// connection alive by pings, holds a backend for the idle timeout and no longer.
func TestClientTakesNothing(t *testing.T) {
	lab.Leaks(t)
	b := newBackends(t)
	b.add("b1", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(make([]byte, 1<<20))
	}), false)
	e := newEdge(t, web.NewSite(web.SiteOptions{Idle: 20 * time.Millisecond, Pool: b.pool(web.PoolOptions{Shared: true})}))
	f := e.frames("\x00\x04\x00\x00\x00\x00") // SETTINGS_INITIAL_WINDOW_SIZE 0
	defer f.Close()
	f.ask(1, ":method", "GET", ":path", "/")
	f.until(frameReset)
	b.waitNone()
	f.write(framePing, 0, 0, "12345678")
	f.until(framePing) // the connection goes on
	f.Close()
	if got := e.result(); !errors.Is(got.Err, web.ErrIdle) {
		t.Errorf("%+v, want ErrIdle", got)
	}
}

// TestPageTakenByNobody is the same of a page of the edge's own.
func TestPageTakenByNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, edge := net.Pipe()
		results := make(chan web.Result, 1)
		go func() {
			results <- web.NewSite(web.SiteOptions{}).Serve(t.Context(), &web.Client{Conn: edge, TLS: &tls.ConnectionState{NegotiatedProtocol: "h2"}})
		}()
		f := &frames{t, client}
		begun := time.Now()
		f.begin("\x00\x04\x00\x00\x00\x00")
		go f.ask(1, ":method", "GET", ":path", "/")
		if f.until(frameReset); time.Since(begun) != 30*time.Second {
			t.Errorf("reset after %v, want 30 s", time.Since(begun))
		}
		client.Close()
		if r := <-results; r.Requests != 1 {
			t.Errorf("%+v, want one request", r)
		}
	})
}
