package health_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/snicketlb/snicket/health"
)

// serveHTTP serves handler on ln until the test ends, by TLS if config is not
// nil, and returns what the server logs. Reading the log waits for its end.
func serveHTTP(t *testing.T, ln net.Listener, config *tls.Config, handler http.HandlerFunc) (address string, logged func() string) {
	t.Helper()
	var buf bytes.Buffer
	s := &http.Server{Handler: handler, TLSConfig: config, ErrorLog: log.New(&buf, "", 0)}
	var active sync.WaitGroup
	s.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			active.Add(1)
		}
		if state == http.StateClosed {
			active.Done()
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if config == nil {
			s.Serve(ln)
		} else {
			s.ServeTLS(ln, "", "")
		}
	}()
	stop := sync.OnceFunc(func() {
		ln.Close()
		<-done
		active.Wait()
	})
	t.Cleanup(func() {
		s.Close()
		stop()
	})
	return ln.Addr().String(), func() string {
		stop()
		return buf.String()
	}
}

func TestHTTPStatus(t *testing.T) {
	noLeak(t)
	tests := []struct {
		name   string
		status int
		accept string
		want   string
	}{
		{"200", 200, "", ""},
		{"204", 204, "", ""},
		{"299", 299, "", ""},
		{"redirects are not followed", 302, "", "status 302, want 200-299"},
		{"503", 503, "", "status 503, want 200-299"},
		{"404 wanted", 404, "404", ""},
		{"list", 401, "200,204,400-403", ""},
		{"not in the list", 404, "200, 204,400-403", "status 404, want 200,204,400-403"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			address, logged := serveHTTP(t, listen(t, "tcp"), nil, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(tt.status)
			})
			p := health.HTTP{TCP: health.TCP{Address: address}}
			if tt.accept != "" {
				var err error
				if p.Status, err = health.ParseStatus(tt.accept); err != nil {
					t.Fatal(err)
				}
			}
			if _, got := probe(t, p, long); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got := logged(); got != "" {
				t.Errorf("the backend logged %q", got)
			}
		})
	}
}

func TestHTTPRequest(t *testing.T) {
	noLeak(t)
	tests := []struct {
		name    string
		network string
		prober  health.HTTP
		want    string // after ADDRESS is replaced
	}{
		{"defaults", "tcp", health.HTTP{}, "GET / host=ADDRESS agent=snicket-health x="},
		{"all set", "tcp", health.HTTP{
			Method: "HEAD", Host: "a.test", Path: "/live?deep=1%2F2",
			Header: http.Header{"X-Probe": {"1"}, "User-Agent": {"me"}},
		}, "HEAD /live?deep=1%2F2 host=a.test agent=me x=1"},
		{"on a path", "unix", health.HTTP{Path: "/live"}, "GET /live host=localhost agent=snicket-health x="},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan string, 1)
			address, _ := serveHTTP(t, listen(t, tt.network), nil, func(_ http.ResponseWriter, r *http.Request) {
				got <- fmt.Sprintf("%s %s host=%s agent=%s x=%s", r.Method, r.RequestURI, r.Host, r.UserAgent(), r.Header.Get("X-Probe"))
			})
			p := tt.prober
			p.Network, p.Address = tt.network, address
			if _, err := probe(t, p, long); err != "" {
				t.Fatal(err)
			}
			want := string(bytes.ReplaceAll([]byte(tt.want), []byte("ADDRESS"), []byte(address)))
			if got := <-got; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestHTTPFailures(t *testing.T) {
	noLeak(t)
	tests := []struct {
		name    string
		serve   func(net.Conn)
		timeout time.Duration
		want    string
	}{
		{"mute", mute, short, "response: no answer within 60ms"},
		{"closing", closing, long, "response: connection closed by the backend"},
		{"resetting", resetting, long, "response: connection reset by peer"},
		{"long words", saying("HTTP/1.1 " + strings.Repeat("x", 1000) + " OK\r\n\r\n"), long, `response: malformed HTTP status code "` + strings.Repeat("x", 172) + "..."},
		{"not HTTP", saying("220 mail ESMTP\r\n\r\n"), long, `response: malformed HTTP status code "mail"`},
		{"cut", saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"), long, "response: connection closed by the backend"},
		{"first 100, then 103", saying("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), long, ""},
		{"never ends its header", func(conn net.Conn) {
			readSome(conn)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := io.WriteString(conn, "X: "+strings.Repeat("x", 1000)+"\r\n"); err != nil {
					return
				}
			}
		}, long, "response: header of more than 131072 bytes"},
		{"never ends its body", func(conn net.Conn) {
			readSome(conn)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
			for {
				if _, err := io.WriteString(conn, "more and more"); err != nil {
					return
				}
			}
		}, long, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := health.HTTP{TCP: health.TCP{Address: backend(t, listen(t, "tcp"), tt.serve)}}
			if _, got := probe(t, p, tt.timeout); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestHTTPBadPath(t *testing.T) {
	_, got := probe(t, health.HTTP{TCP: health.TCP{Address: closedAddress(t)}, Path: "live"}, long)
	if want := `request: path "live": want one that starts with a slash`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestHTTPS(t *testing.T) {
	noLeak(t)
	ca := newAuthority(t)
	tests := []struct {
		name     string
		serves   []string
		offers   []string
		wantALPN string
		wantUses string
	}{
		{"default", []string{"h2", "http/1.1"}, nil, "http/1.1", "HTTP/1.1"},
		{"h2", []string{"h2", "http/1.1"}, []string{"h2", "http/1.1"}, "h2", "HTTP/2.0"},
		{"h2 refused", []string{"http/1.1"}, []string{"h2", "http/1.1"}, "http/1.1", "HTTP/1.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			uses := make(chan string, 20)
			config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "a.test", -day, day)}, NextProtos: tt.serves}
			address, logged := serveHTTP(t, listen(t, "tcp"), config, func(w http.ResponseWriter, r *http.Request) {
				uses <- r.Proto
				w.WriteHeader(http.StatusTeapot)
			})
			offer := &tls.Config{RootCAs: ca.pool, ServerName: "a.test", NextProtos: tt.offers}
			p := health.HTTP{TCP: health.TCP{Address: address}, TLS: offer, Host: "a.test"}
			for range cap(uses) {
				o, got := probe(t, p, long)
				if want := "status 418, want 200-299"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				if o.ALPN != tt.wantALPN || o.TLSVersion != tls.VersionTLS13 || len(o.Certificates) != 1 {
					t.Errorf("saw ALPN %q, version %#x, %d certificates; want %q", o.ALPN, o.TLSVersion, len(o.Certificates), tt.wantALPN)
				}
				if got := <-uses; got != tt.wantUses {
					t.Errorf("request by %s, want %s", got, tt.wantUses)
				}
			}
			if len(offer.NextProtos) != len(tt.offers) {
				t.Error("the probe changed the configuration")
			}
			if got := logged(); got != "" {
				t.Errorf("the backend logged %q", got)
			}
		})
	}
	t.Run("another name", func(t *testing.T) {
		config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "b.test", -day, day)}}
		address, _ := serveHTTP(t, listen(t, "tcp"), config, http.NotFound)
		p := health.HTTP{TCP: health.TCP{Address: address}, TLS: &tls.Config{RootCAs: ca.pool, ServerName: "a.test"}}
		if _, got := probe(t, p, long); got != "certificate is valid for b.test, not a.test" {
			t.Errorf("got %q", got)
		}
	})
}

// A backend that serves HTTPS sees nothing to log in a tls probe either.
func TestTLSProbeIsQuiet(t *testing.T) {
	noLeak(t)
	ca := newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "a.test", -day, day)}, MaxVersion: version}
			address, logged := serveHTTP(t, listen(t, "tcp"), config, http.NotFound)
			p := health.TLS{TCP: health.TCP{Address: address}, Config: &tls.Config{RootCAs: ca.pool, ServerName: "a.test"}}
			for range 20 {
				if _, got := probe(t, p, long); got != "" {
					t.Fatal(got)
				}
			}
			if got := logged(); got != "" {
				t.Errorf("the backend logged %q", got)
			}
		})
	}
}

func TestPrefaceOfHTTPS(t *testing.T) {
	noLeak(t)
	ca := newAuthority(t)
	config := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "a.test", -day, day)}}
	const preface = "PROXY UNKNOWN\r\n"
	for _, client := range []*tls.Config{nil, {RootCAs: ca.pool, ServerName: "a.test"}} {
		headers := make(chan string, 1)
		address := backend(t, listen(t, "tcp"), func(conn net.Conn) {
			br := bufio.NewReader(conn)
			line, _ := br.ReadString('\n')
			headers <- line
			conn = buffered{conn, br}
			if client != nil {
				conn = tls.Server(conn, config)
			}
			saying("HTTP/1.1 200 OK\r\n\r\n")(conn)
			conn.Close()
		})
		p := health.HTTP{TCP: health.TCP{Address: address, Preface: []byte(preface)}, TLS: client}
		if _, err := probe(t, p, long); err != "" {
			t.Error(err)
		}
		if got := <-headers; got != preface {
			t.Errorf("header %q, want %q", got, preface)
		}
	}
}

func TestParseStatus(t *testing.T) {
	tests := []struct {
		in   string
		want []health.StatusRange // nil: an error
	}{
		{"200-299", []health.StatusRange{{200, 299}}},
		{"204", []health.StatusRange{{204, 204}}},
		{"200,204,300-399", []health.StatusRange{{200, 200}, {204, 204}, {300, 399}}},
		{" 200 , 300 - 399 ", []health.StatusRange{{200, 200}, {300, 399}}},
		{"100-599", []health.StatusRange{{100, 599}}},
		{"", nil},
		{"2xx", nil},
		{"200,", nil},
		{"299-200", nil},
		{"99", nil},
		{"600", nil},
		{"200-", nil},
		{"-200", nil},
		{"200-250-299", nil},
		{"+20", nil},
		{"0200", nil},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := health.ParseStatus(tt.in)
			if (err == nil) != (tt.want != nil) || !slices.Equal(got, tt.want) {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
	_, err := health.ParseStatus("200,2xx")
	if want := `status "2xx": want 100 to 599, as in "204" or "200-299"`; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}
