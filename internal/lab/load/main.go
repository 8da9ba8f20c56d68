// Load makes load for tests as a process of its own, because one process may not have descriptors enough for both
// ends of thousands of sessions, and because a client that shares a process with the test shares its scheduler.
//
//	load serve  -listen ADDR [-kind echo|mute|announce] [-name NAME]
//	load hold   -target ADDR -sni NAME -n N            open N echo sessions, prove each, hold them until stdin ends
//	load streams -target ADDR -sni NAME -n N -rate R   open N echo sessions, R random messages a second in all, until
//	                                                   stdin ends; "pause D" is how long the slowest took to come back
//	load hellos -target ADDR -n N [-from IP]           open N connections that each send half a hello and wait
//	load calls  -target ADDR -sni NAME -rate R -for D [-from IP] [-proxy IP] [-tls] [-ca FILE]
//	                                                   open R sessions a second for D, one exchange of bytes each
//	load pings  -target ADDR -sni NAME -n N -rate R -for D
//	                                                   R messages a second on N echo sessions in turn for D
//
// It prints lines a test can wait for: "listening ADDR", "holding N", and at the end one "result KEY=N ..." with how
// the connections ended: ok, reset, closed, timeout, refused, wrong, alert. A call that is not ok also prints
// "failed: WHY", the first hundred times. The result of pings is how many there were, and the microseconds from when
// one was due until it was back: p50, p99, p999, max.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) < 2 {
		fatal("usage: load serve|hold|streams|hellos|calls|pings ...")
	}
	f := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	o := options{}
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "address to serve")
	f.StringVar(&o.kind, "kind", "echo", "echo, mute or announce")
	f.StringVar(&o.name, "name", "load", "what announce says")
	f.StringVar(&o.target, "target", "", "address to connect to")
	f.StringVar(&o.sni, "sni", "", "server name to ask for")
	f.IntVar(&o.n, "n", 1, "connections")
	f.IntVar(&o.rate, "rate", 100, "connections a second")
	f.DurationVar(&o.length, "for", time.Second, "how long to make calls")
	f.DurationVar(&o.patience, "patience", 20*time.Second, "how long one connection may take")
	f.StringVar(&o.from, "from", "", "source address")
	f.StringVar(&o.proxy, "proxy", "", "send a PROXY v1 header that names this client address")
	f.BoolVar(&o.tls, "tls", false, "shake hands; else a hello is sent and must come back as it is")
	f.StringVar(&o.ca, "ca", "", "file of the certificate to trust")
	if err := f.Parse(os.Args[2:]); err != nil {
		fatal(err)
	}
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(o)
	case "hold":
		err = hold(o)
	case "streams":
		err = streams(o)
	case "hellos":
		hellos(o)
	case "calls":
		err = calls(o)
	case "pings":
		err = pings(o)
	default:
		err = fmt.Errorf("unknown command %q", os.Args[1])
	}
	if err != nil {
		fatal(err)
	}
}

type options struct {
	listen, kind, name string
	target, sni        string
	n, rate            int
	length, patience   time.Duration
	from, proxy, ca    string
	tls                bool
}

func fatal(v any) {
	fmt.Fprintln(os.Stderr, "load:", v)
	os.Exit(1)
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, format+"\n", args...)
}

// tally counts how connections ended.
type tally struct {
	mu     sync.Mutex // mu guards the fields below
	counts map[string]int
	told   int
}

func (c *tally) add(err error) {
	ending := classify(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[ending]++
	if err != nil && c.told < 100 {
		c.told++
		say("failed: %s: %v", ending, err)
	}
}

func (c *tally) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var parts []string
	for _, ending := range []string{"ok", "reset", "closed", "timeout", "refused", "wrong", "alert"} {
		parts = append(parts, fmt.Sprintf("%s=%d", ending, c.counts[ending]))
	}
	return strings.Join(parts, " ")
}

var errWrong = errors.New("not the bytes that were sent")

func classify(err error) string {
	var netError net.Error
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.As(err, &netError) && netError.Timeout():
		return "timeout"
	case errors.Is(err, errWrong):
		return "wrong"
	}
	return "alert"
}

func (o options) dial() (*net.TCPConn, error) {
	d := net.Dialer{Timeout: o.patience}
	d.SetMultipathTCP(false)
	if o.from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(o.from)}
	}
	c, err := d.Dial("tcp", o.target)
	if err != nil {
		return nil, err
	}
	if o.proxy != "" {
		if _, err := fmt.Fprintf(c, "PROXY TCP4 %s 192.0.2.1 4321 443\r\n", o.proxy); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c.(*net.TCPConn), nil
}

func serve(o options) error {
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	kinds := []string{"echo", "mute", "announce"}
	if !slices.Contains(kinds, o.kind) {
		return fmt.Errorf("kind %q is none of %v", o.kind, kinds)
	}
	say("listening %s", l.Addr())
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			continue
		}
		go answer(c, o) // ends with its connection, or with the process
	}
}

func answer(c net.Conn, o options) {
	defer c.Close()
	buf := make([]byte, 2<<10)
	for first := true; ; first = false {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		switch {
		case o.kind == "echo":
			_, err = c.Write(buf[:n])
		case o.kind == "announce" && first:
			_, err = io.WriteString(c, o.name+"\n")
		}
		if err != nil {
			return
		}
	}
}
