package health_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/health"
)

// greeting says s and then hears the other side out.
func greeting(s string) func(net.Conn) {
	return func(conn net.Conn) {
		io.WriteString(conn, s)
		mute(conn)
	}
}

// once makes p's connections time out at their second read, which a short timeout
// would not do where the machine is slow.
func once(p *health.TCP) {
	address := p.Address
	p.Dial = func(context.Context) (net.Conn, error) {
		conn, err := net.Dial("tcp", address)
		return &onceRead{Conn: conn}, err
	}
}

type onceRead struct {
	net.Conn
	read bool
}

func (c *onceRead) Read(p []byte) (int, error) {
	if c.read {
		return 0, os.ErrDeadlineExceeded
	}
	c.read = true
	return c.Conn.Read(p)
}

func TestExchange(t *testing.T) {
	noLeak(t)
	hello := regexp.MustCompile(`^hello\b`)
	tests := []struct {
		name    string
		serve   func(net.Conn)
		send    string
		expect  *regexp.Regexp
		timeout time.Duration
		want    string
	}{
		{"the server speaks first", greeting("hello\r\n"), "", hello, long, ""},
		{"an answer", saying("hello you"), "who?\n", hello, long, ""},
		{"in pieces", func(conn net.Conn) {
			for c := range strings.SplitSeq("hello", "") {
				io.WriteString(conn, c)
			}
			io.WriteString(conn, " ")
			mute(conn)
		}, "", hello, long, ""},
		{"anything", greeting("\x00"), "", nil, long, ""},
		{"mute", mute, "who?", hello, short, "no answer within 60ms"},
		{"another answer", greeting("hullo"), "", hello, partly, `read 5 bytes "hullo", then no more, want match of "^hello\\b"`},
		{"closing", closing, "who?", hello, long, `read EOF after 0 bytes, want match of "^hello\\b"`},
		{"closing at once, anything", func(net.Conn) {}, "", nil, long, "read EOF after 0 bytes, want match of any byte"},
		{"another answer, then closing", saying("h"), "who?", hello, long, `read EOF after 1 byte "h", want match of "^hello\\b"`},
		{"resetting", resetting, "who?", hello, long, "read: connection reset by peer"},
		{"bytes that are no text", saying("\xff\x00\n"), "?", hello, long, `read EOF after 3 bytes "\xff\x00\n", want match of "^hello\\b"`},
		{"no end", func(conn net.Conn) {
			for {
				if _, err := io.WriteString(conn, strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		}, "", hello, long, `read 16384 bytes "` + strings.Repeat("x", 80) + `"..., want match of "^hello\\b"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := health.Exchange{
				TCP:  health.TCP{Address: backend(t, listen(t, "tcp"), tt.serve)},
				Send: []byte(tt.send), Expect: tt.expect,
			}
			if tt.timeout == partly {
				once(&p.TCP)
			}
			if _, got := probe(t, p, tt.timeout); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("nothing listens", func(t *testing.T) {
		p := health.Exchange{TCP: health.TCP{Address: closedAddress(t)}}
		if _, got := probe(t, p, long); got != "connect: connection refused" {
			t.Errorf("got %q", got)
		}
	})
}

// Preface, words and goodbye arrive in this order and end in good order, with TLS
// and without.
func TestExchangeEndsInGoodOrder(t *testing.T) {
	noLeak(t)
	ca := newAuthority(t)
	server := &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "a.test", -day, day)}}
	for _, tt := range []struct {
		name   string
		client *tls.Config
	}{
		{"plain", nil},
		{"TLS", &tls.Config{RootCAs: ca.pool, ServerName: "a.test"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := make(chan string, 1)
			address := backend(t, listen(t, "tcp"), func(conn net.Conn) {
				br := bufio.NewReader(conn)
				preface, _ := br.ReadString('\n')
				conn = buffered{conn, br}
				if tt.client != nil {
					session := tls.Server(conn, server)
					defer session.Close()
					conn = session
				}
				br = bufio.NewReader(conn)
				line, _ := br.ReadString('\n')
				io.WriteString(conn, "hello\n")
				rest, err := io.ReadAll(br)
				if err != nil {
					rest = []byte(err.Error())
				}
				got <- preface + line + string(rest)
			})
			p := health.Exchange{
				TCP: health.TCP{Address: address, Preface: []byte("PROXY UNKNOWN\r\n")}, TLS: tt.client,
				Send: []byte("who?\n"), Expect: regexp.MustCompile("^hello\n$"), Bye: []byte("bye\n"),
			}
			o, err := probe(t, p, long)
			if err != "" {
				t.Fatal(err)
			}
			if got, want := <-got, "PROXY UNKNOWN\r\nwho?\nbye\n"; got != want {
				t.Errorf("the backend read %q, want %q", got, want)
			}
			if saw := len(o.Certificates) > 0; saw != (tt.client != nil) {
				t.Errorf("saw %d certificates", len(o.Certificates))
			}
		})
	}
	t.Run("TLS that does not fit", func(t *testing.T) {
		address := backend(t, listen(t, "tcp"), handshaking(server))
		p := health.Exchange{TCP: health.TCP{Address: address}, TLS: &tls.Config{RootCAs: ca.pool, ServerName: "b.test"}}
		o, got := probe(t, p, long)
		if got != "certificate is valid for a.test, not b.test" || len(o.Certificates) != 1 {
			t.Errorf("got %q and %d certificates", got, len(o.Certificates))
		}
	})
}

// What the servers of each protocol say, taken from them, and how it is judged.
func TestPresets(t *testing.T) {
	noLeak(t)
	const mysqlGreeting = "\x0a8.0.36\x00\x08\x00\x00\x00abcdefgh\x00\xff\xff\xff\x02\x00\xff\xdf\x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00abcdefghijkl\x00caching_sha2_password\x00"
	tests := []struct {
		name, preset string
		serve        func(net.Conn)
		want         string // its beginning; "" is a pass
	}{
		{"password wanted", "postgres", saying("R\x00\x00\x00\x17\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"), ""},
		{"no entry in pg_hba.conf", "postgres", saying("E\x00\x00\x00\x8dSFATAL\x00VFATAL\x00C28000\x00Mno pg_hba.conf entry\x00\x00"), ""},
		{"no such database", "postgres", saying("E\x00\x00\x00\x8dSFATAL\x00VFATAL\x00C3D000\x00Mdatabase does not exist\x00\x00"), ""},
		{"starting up", "postgres", saying("E\x00\x00\x00\x50SFATAL\x00VFATAL\x00C57P03\x00Mthe database system is starting up\x00\x00"), "read EOF after "},
		{"too many clients", "postgres", saying("E\x00\x00\x00\x50SFATAL\x00VFATAL\x00C53300\x00Msorry, too many clients already\x00\x00"), "read EOF after "},
		{"not postgres", "postgres", saying("HTTP/1.1 400 Bad Request\r\n\r\n"), "read EOF after "},
		{"greeting", "mysql", greeting(string(rune(len(mysqlGreeting))) + "\x00\x00\x00" + mysqlGreeting), ""},
		{"too many connections", "mysql", abruptly("\x17\x00\x00\x00\xff\x10\x04Too many connections"), "read EOF after 27 bytes "},
		{"not mysql", "mysql", abruptly("SSH-2.0-OpenSSH_9.2\r\n"), "read EOF after "},
		{"pong", "redis", saying("+PONG\r\n+OK\r\n"), ""},
		{"password wanted", "redis", saying("-NOAUTH Authentication required.\r\n+OK\r\n"), ""},
		{"loading", "redis", saying("-LOADING Redis is loading the dataset in memory\r\n+OK\r\n"), `read EOF after 54 bytes "-LOADING Redis`},
		{"protected mode", "redis", saying("-DENIED Redis is running in protected mode\r\n"), "read EOF after "},
		{"greeting", "smtp", greeting("220 mail.example.com ESMTP\r\n"), ""},
		{"greeting of several lines", "smtp", greeting("220-mail.example.com\r\n220-be nice\r\n220 \r\n"), ""},
		{"no service", "smtp", abruptly("554 no SMTP service here\r\n"), "read EOF after 26 bytes "},
		{"shutting down", "smtp", abruptly("421 try later\r\n"), "read EOF after 15 bytes "},
		{"greeting", "imap", greeting("* OK [CAPABILITY IMAP4rev1] ready.\r\n"), ""},
		{"authenticated", "imap", greeting("* PREAUTH IMAP4rev1 server\r\n"), ""},
		{"turned away", "imap", abruptly("* BYE too many connections\r\n"), "read EOF after 28 bytes "},
		{"success", "ldap", saying("\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00"), ""},
		{"success, long lengths", "ldap", saying("\x30\x84\x00\x00\x00\x10\x02\x01\x01\x61\x84\x00\x00\x00\x07\x0a\x01\x00\x04\x00\x04\x00"), ""},
		{"anonymous bind disallowed", "ldap", saying("\x30\x23\x02\x01\x01\x61\x1e\x0a\x01\x30\x04\x00\x04\x17anonymous bind disallowed"), ""},
		{"unavailable", "ldap", saying("\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x34\x04\x00\x04\x00"), "read EOF after 14 bytes "},
	}
	for _, tt := range tests {
		t.Run(tt.preset+"/"+tt.name, func(t *testing.T) {
			p, ok := health.Preset(tt.preset)
			if !ok {
				t.Fatal("no such preset")
			}
			p.Address = backend(t, listen(t, "tcp"), tt.serve)
			_, got := probe(t, p, long)
			if tt.want == "" && got != "" || !strings.HasPrefix(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if _, ok := health.Preset("gopher"); ok {
		t.Error("there is a preset gopher")
	}
	for _, name := range health.Presets() {
		if _, ok := health.Preset(name); !ok {
			t.Errorf("%s is listed and no preset", name)
		}
	}
}

// abruptly says s and closes without hearing anything.
func abruptly(s string) func(net.Conn) {
	return func(conn net.Conn) { io.WriteString(conn, s) }
}

func TestHTTPBody(t *testing.T) {
	noLeak(t)
	alive := regexp.MustCompile(`"status":"UP"`)
	answering := func(body string) func(net.Conn) {
		return saying("HTTP/1.1 200 OK\r\nContent-Length: 20\r\nConnection: close\r\n\r\n" + body)
	}
	tests := []struct {
		name    string
		serve   func(net.Conn)
		timeout time.Duration
		want    string
	}{
		{"as wanted", answering(`{"status":"UP", "x"}`), long, ""},
		{"another", answering(`{"status":"DOWN","x"`), long, `body: read 20 bytes "{\"status\":\"DOWN\",\"x\"", want match of "\"status\":\"UP\""`},
		{"the status counts first", saying("HTTP/1.1 503 No\r\n\r\n" + `"status":"UP"`), long, "status 503, want 200-299"},
		{"cut before it", answering("{"), long, "body: connection closed by the backend"},
		{"cut behind it", answering(`{"status":"UP"`), long, ""},
		{"slow", func(conn net.Conn) {
			answering("{")(conn)
			mute(conn)
		}, partly, `body: read 1 byte "{", then no more, want match of "\"status\":\"UP\""`},
		{"slow behind it", func(conn net.Conn) {
			answering(`{"status":"UP"`)(conn)
			mute(conn)
		}, partly, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := health.HTTP{TCP: health.TCP{Address: backend(t, listen(t, "tcp"), tt.serve)}, Body: alive}
			if tt.timeout == partly {
				once(&p.TCP)
			}
			if _, got := probe(t, p, tt.timeout); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
