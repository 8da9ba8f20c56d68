package admin

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// line is a listener at which pipes wait, each with where it comes from.
type line struct{ next chan named }

type named struct {
	net.Conn
	origin string
}

func (l *line) Accept() (net.Conn, error) { return <-l.next, nil }
func (l *line) Close() error              { return nil }
func (l *line) Addr() net.Addr            { return nil }

// TestWhoMakesRoom: with four places, and three for one origin. A word is somebody who
// comes, named by origin and number; "+a1" is that a1 makes a request, "-a1" that it has
// none any more, "." that two seconds pass.
func TestWhoMakesRoom(t *testing.T) {
	for name, tc := range map[string]struct{ script, left string }{
		"room":                           {"a1 a2 b1 c1", "a1 a2 b1 c1"},
		"more than its share":            {"+a1 +a2 +a3 b1 +a4", "a2 a3 b1 a4"},
		"its share, with room":           {"+a1 +a2 +a3 +a4", "a2 a3 a4"},
		"full: of whom there are most":   {"+b1 +a1 +a2 +c1 d1", "b1 a2 c1 d1"},
		"full: all the same":             {"+a1 +b1 +c1 +d1 e1", "b1 c1 d1 e1"},
		"idle before busy":               {"+a1 a2 +b1 +c1 . d1", "a1 b1 c1 d1"},
		"idle again":                     {"+a1 +a2 -a2 +b1 +c1 . d1", "a1 b1 c1 d1"},
		"idle for the longest":           {"a1 a2 . +a1 -a1 b1 c1 . d1", "a1 b1 c1 d1"},
		"not idle yet":                   {"+a1 a2 +b1 +c1 d1", "a2 b1 c1 d1"},
		"idle of others is not touched":  {"b1 . +a1 +a2 +a3 +a4", "b1 a2 a3 a4"},
		"a flood leaves others alone":    {"+b1 a1 a2 a3 a4 a5 a6 a7 a8", "b1 a6 a7 a8"},
		"who has gone makes room for it": {"+a1 +a2 +b1 +c1 !a1 d1", "a2 b1 c1 d1"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &line{make(chan named, 1)}
				c := newCrowd(l, &bounds{conns: bound{4, 3}, origin: func(g *guest) string { return g.Conn.(named).origin }})
				guests, order := map[string]net.Conn{}, []string{}
				open := map[string]*atomic.Bool{}
				come := func(who string) {
					near, far := net.Pipe()
					l.next <- named{near, who[:1]}
					g, err := c.Accept()
					if err != nil {
						t.Fatal(err)
					}
					there := new(atomic.Bool)
					there.Store(true)
					guests[who], order, open[who] = g, append(order, who), there
					connState(g, http.StateNew)
					go func() {
						_, _ = io.Copy(io.Discard, far)
						there.Store(false)
					}()
				}
				for word := range strings.FieldsSeq(tc.script) {
					switch who := word[1:]; word[0] {
					case '.':
						<-time.After(2 * time.Second)
					case '-':
						connState(guests[who], http.StateIdle)
					case '!':
						guests[who].Close()
					case '+':
						if guests[who] == nil {
							come(who)
						}
						connState(guests[who], http.StateActive)
					default:
						come(word)
					}
					<-time.After(time.Millisecond) // no two at the same time
					synctest.Wait()
				}
				left := []string{}
				for _, who := range order {
					if open[who].Load() {
						left = append(left, who)
					}
				}
				if got := strings.Join(left, " "); got != tc.left {
					t.Errorf("got %s left, want %s", got, tc.left)
				}
				for _, g := range guests {
					g.Close()
				}
				synctest.Wait()
				if len(c.guests) != 0 {
					t.Errorf("got %d guests when all have gone", len(c.guests))
				}
			})
		})
	}
}

// TestOrigins: whoever has a network of 64 bits under IPv6 has one share, as has an
// address under IPv4, however it is written.
func TestOrigins(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "::ffff:192.0.2.7": "192.0.2.7", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1": "fe80::/64", "::1": "::/64",
	} {
		at := &net.TCPAddr{IP: net.ParseIP(text), Port: 7}
		if got := byAddress(&guest{Conn: remote{at: at}}); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

type remote struct {
	net.Conn
	at net.Addr
}

func (r remote) RemoteAddr() net.Addr { return r.at }
