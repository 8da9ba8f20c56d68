package proxy_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/proxyheader"
)

// headerFrom is a header of a client, as a proxy before this one sends it.
func headerFrom(t testing.TB, version int, client, destination string) []byte {
	t.Helper()
	b, err := proxyheader.Append(nil, proxyheader.Out{
		Version: version, Source: netip.MustParseAddrPort(client), Destination: netip.MustParseAddrPort(destination),
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestProxyHeaderIn(t *testing.T) {
	const client4, client6, destination = "192.0.2.7:1234", "[2001:db8::7]:1234", "192.0.2.1:443"
	hello := lab.Hello("a.test")
	with := func(header []byte) []byte { return append(bytes.Clone(header), hello...) }
	tests := []struct {
		name     string
		unlisted bool
		sent     []byte
		chunk    int // 0: at once
		want     proxy.Outcome
		client   string // "": the peer
	}{
		{name: "v1", sent: with(headerFrom(t, 1, client4, destination)), client: client4},
		{name: "v2", sent: with(headerFrom(t, 2, client4, destination)), client: client4},
		{name: "v1, IPv6", sent: with(headerFrom(t, 1, client6, "[2001:db8::1]:443")), client: client6},
		{name: "v2, IPv6", sent: with(headerFrom(t, 2, client6, "[2001:db8::1]:443")), client: client6},
		{name: "v1, byte by byte", sent: with(headerFrom(t, 1, client4, destination)), chunk: 1, client: client4},
		{name: "v2, byte by byte", sent: with(headerFrom(t, 2, client4, destination)), chunk: 1, client: client4},
		{name: "v2, in sevens", sent: with(headerFrom(t, 2, client6, "[2001:db8::1]:443")), chunk: 7, client: client6},
		{name: "LOCAL", sent: with(proxyheader.Local(2))},
		{name: "UNKNOWN", sent: with(proxyheader.Local(1))},
		{name: "listed without a header", sent: hello, want: proxy.BadProxyHeader},
		{name: "listed, broken v1", sent: with([]byte("PROXY TCP4 x y 1 2\r\n")), want: proxy.BadProxyHeader},
		{name: "two headers", sent: with(append(headerFrom(t, 1, client4, destination), headerFrom(t, 1, client4, destination)...)), want: proxy.NotTLS},
		{name: "unlisted without a header", unlisted: true, sent: hello},
		{name: "unlisted with v1", unlisted: true, sent: with(headerFrom(t, 1, client4, destination)), want: proxy.BadProxyHeader},
		{name: "unlisted with v2", unlisted: true, sent: with(headerFrom(t, 2, client4, destination)), want: proxy.BadProxyHeader},
		{name: "unlisted with v2, byte by byte", unlisted: true, sent: with(headerFrom(t, 2, client4, destination)), chunk: 1, want: proxy.BadProxyHeader},
		{name: "unlisted with HTTP's P", unlisted: true, sent: []byte("POST / HTTP/1.1\r\n\r\n"), want: proxy.NotTLS},
	}
	heard := lab.NewRecorder()
	srv := lab.Serve(t, lab.Announce("a", heard), lab.Options{})
	s := state(t, route("a.test", srv.Addr()))
	s.Listeners = append(s.Listeners, listener("listed", "127.0.0.2:0"))
	s.Listeners[1].AcceptProxyFrom = prefixes("127.0.0.0/8")
	s.Routes[0].Listeners = []string{"https", "listed"}
	h := start(t, s)
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			count := heard.Count()
			c := h.dialTo("listed")
			if tc.unlisted {
				c = h.dialTo("https")
			}
			for b := tc.sent; len(b) > 0; {
				n := len(b)
				if tc.chunk > 0 {
					n = min(n, tc.chunk)
				}
				if _, err := c.Write(b[:n]); err != nil && tc.want == proxy.OK {
					t.Fatal(err)
				}
				b = b[n:]
			}
			peer := c.LocalAddr().String()
			if tc.want != proxy.OK {
				if tc.chunk == 0 {
					closed(t, c)
				}
				_ = c.Close()
				h.want(tc.want)
				if heard.Count() != count {
					t.Error("a backend heard of it")
				}
				return
			}
			line(t, c)
			if got := heard.Wait(t, count, len(hello)); !bytes.Equal(got, hello) {
				t.Errorf("the backend got %d bytes, want the hello's %d alone", len(got), len(hello))
			}
			_ = c.CloseWrite()
			closed(t, c)
			want := tc.client
			if want == "" {
				want = peer
			}
			r := h.want(proxy.OK)
			if r.Client.String() != want || r.Peer.String() != peer || r.BytesIn != int64(len(hello)) {
				t.Errorf("client %v, peer %v, %d bytes in; want %s, %s, %d", r.Client, r.Peer, r.BytesIn, want, peer, len(hello))
			}
		})
	}
}

// TestProxyHeaderThenSlowHello sends the header alone, and the hello in pieces
// once the header has been read; a header without a hello runs into the timeout.
func TestProxyHeaderThenSlowHello(t *testing.T) {
	srv := lab.Serve(t, lab.Announce("a", nil), lab.Options{})
	s := state(t, route("a.test", srv.Addr()))
	s.Listeners[0].AcceptProxyFrom = prefixes("127.0.0.0/8")
	h := start(t, s)
	c := h.dial()
	hello := lab.Hello("a.test")
	for _, piece := range [][]byte{headerFrom(t, 2, "192.0.2.7:1", "192.0.2.1:443"), hello[:3], hello[3:100], hello[100:]} {
		h.send(c, piece)
		eventually(t, "the piece is read", func() bool { return h.p.Active() == 1 && unread(t, h, c) == 0 })
	}
	line(t, c)
	_ = c.Close()
	h.record()

	s.Timeouts.Hello = 50 * time.Millisecond
	h.apply(s)
	for _, sent := range [][]byte{nil, []byte("PROXY TCP4 "), headerFrom(t, 1, "192.0.2.7:1", "192.0.2.1:443")} {
		c := h.dial()
		h.send(c, sent)
		closed(t, c)
		h.want(proxy.HelloTimeout)
	}
}

func TestProxyHeaderOut(t *testing.T) {
	tests := []struct {
		name    string
		pool    func(*proxy.Pool)
		in      []byte // a header from the client's side
		alpn    []string
		six     bool
		source  string // "": the client's own address
		tlvs    map[byte]string
		ownID   bool
		version int
	}{
		{name: "v1", version: 1},
		{name: "v1, IPv6", version: 1, six: true},
		{name: "v2", version: 2},
		{name: "v2, IPv6", version: 2, six: true},
		{
			name: "v2 with everything", version: 2, alpn: []string{"h2"}, ownID: true,
			pool: func(p *proxy.Pool) {
				p.TLVs = proxy.TLVs{Authority: true, ALPN: true, UniqueID: true, SSL: true, CRC32C: true}
			},
			tlvs: map[byte]string{1: "h2", 2: "a.test"},
		},
		{
			name: "v2, several protocols offered", version: 2, alpn: []string{"h2", "http/1.1"},
			pool: func(p *proxy.Pool) { p.TLVs = proxy.TLVs{ALPN: true} }, tlvs: map[byte]string{},
		},
		{name: "passed on", version: 2, in: headerFrom(t, 1, "192.0.2.7:1234", "192.0.2.1:443"), source: "192.0.2.7:1234"},
		{name: "passed on, mixed families", version: 2, in: headerFrom(t, 2, "[2001:db8::7]:1234", "192.0.2.1:443"), source: "[2001:db8::7]:1234"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			heard := lab.NewRecorder()
			srv := lab.Serve(t, lab.Announce("a", heard), lab.Options{})
			r := route("a.test", srv.Addr())
			r.Pool.ProxyProtocol = tc.version
			if tc.pool != nil {
				tc.pool(r.Pool)
			}
			s := state(t, r)
			if tc.six {
				s.Listeners[0] = listener("https", "[::1]:0")
			}
			if tc.in != nil {
				s.Listeners[0].AcceptProxyFrom = prefixes("127.0.0.0/8")
			}
			h := start(t, s)
			hello := lab.Hello("a.test", tc.alpn...)
			c := h.dial()
			h.send(c, append(bytes.Clone(tc.in), hello...))
			line(t, c)
			_ = c.CloseWrite()
			closed(t, c)
			rec := h.want(proxy.OK)
			got := heard.Heard(0)
			header, n, err := proxyheader.Parse(got)
			if err != nil {
				t.Fatalf("the backend got %q: %v", got[:min(len(got), 40)], err)
			}
			if !bytes.Equal(got[n:], hello) {
				t.Errorf("%d bytes behind the header, want the hello's %d", len(got)-n, len(hello))
			}
			source, destination := tc.source, h.addr
			if source == "" {
				source = c.LocalAddr().String()
			} else {
				destination = "192.0.2.1:443"
			}
			if header.Version != tc.version || header.Source.String() != source || header.Destination.String() != destination {
				t.Errorf("v%d %v to %v, want v%d %s to %s", header.Version, header.Source, header.Destination, tc.version, source, destination)
			}
			if rec.BytesIn != int64(len(hello)) {
				t.Errorf("%d bytes in, want the hello's %d alone", rec.BytesIn, len(hello))
			}
			if tc.tlvs == nil {
				return
			}
			tlvs := readTLVs(t, got[:n])
			for kind, want := range tc.tlvs {
				if tlvs[kind] != want {
					t.Errorf("TLV %d is %q, want %q", kind, tlvs[kind], want)
				}
			}
			if _, has := tlvs[5]; has != tc.ownID || tc.ownID && tlvs[5] != rec.ID.String() {
				t.Errorf("unique id %q, record's %v", tlvs[5], rec.ID)
			}
			if _, has := tlvs[3]; has != tc.ownID {
				t.Errorf("checksum: %v, want %v", has, tc.ownID)
			}
		})
	}
}

// readTLVs takes apart what follows the addresses of a version 2 header.
func readTLVs(t testing.TB, header []byte) map[byte]string {
	t.Helper()
	b := header[16:]
	switch header[13] {
	case 0x11:
		b = b[12:]
	case 0x21:
		b = b[36:]
	default:
		t.Fatalf("family %#x", header[13])
	}
	out := map[byte]string{}
	for len(b) >= 3 {
		n := int(b[1])<<8 | int(b[2])
		out[b[0]] = string(b[3 : 3+n])
		b = b[3+n:]
	}
	return out
}
