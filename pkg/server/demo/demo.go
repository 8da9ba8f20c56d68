// Package demo runs a balancer that needs no file: a certificate authority of its
// own, three small backends, and one host for each mode (passthrough, terminate,
// re-encrypt), on loopback alone.
//
// [Run] is all there is. It writes a configuration and certificates into a temporary
// directory and serves them by the same path as any other file, so what it shows is
// what the balancer does.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"text/template"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/server"
)

// Options are the options of Run.
type Options struct {
	// Stdout takes what the demonstration has to say and then the access log,
	// Stderr warnings.
	Stdout, Stderr io.Writer
	// Once ends it after the self-test.
	Once bool
	// Signals are as of server.Server.Run; any but SIGHUP ends it.
	Signals <-chan os.Signal
	// Started is told the number of event loops before they run. May be nil.
	Started func(loops int)
}

// preferredAddress is listened on if it is free, so that lines copied from an
// earlier run still work.
const preferredAddress = "127.0.0.1:8443"

// A host is one of the hosts demonstrated.
type host struct {
	name string
	what string // the mode, for people
}

func hosts() []host {
	return []host{
		{"pass.demo.test", "passthrough: TLS goes through untouched, the backend shows its certificate"},
		{"term.demo.test", "terminate: Snicket ends TLS, the backend gets plain text"},
		{"both.demo.test", "re-encrypt: Snicket ends TLS and speaks fresh TLS to the backend"},
	}
}

// Run runs the demonstration until ctx is done, a signal ends it or, with Once, its
// self-test has passed. The error says what failed.
func Run(ctx context.Context, o Options) (err error) {
	dir, err := os.MkdirTemp("", "snicket-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &stage{dir: dir, o: o, out: &gate{w: o.Stdout}}
	defer s.close()
	if err := s.build(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bound := make(chan string, 1)
	balancer, err := server.New(filepath.Join(dir, "snicket.toml"), server.Options{
		Stdout: s.out, Stderr: o.Stderr,
		Ready: func(b []proxy.Bound) { bound <- b[0].Address },
	})
	if err != nil {
		return err
	}
	if o.Started != nil {
		o.Started(balancer.Loops())
	}
	ended := make(chan error, 1)
	go func() { ended <- balancer.Run(ctx, o.Signals) }() // out before Run returns
	select {
	case err := <-ended:
		return err
	case address := <-bound:
		err := s.show(ctx, address)
		if err != nil || o.Once {
			cancel()
		} else {
			s.out.open.Store(true)
			fmt.Fprintf(o.Stdout, "Ctrl-C ends it. Each session writes one line here when it ends:\n")
		}
		return errors.Join(err, <-ended)
	}
}

// A stage is what the balancer stands on: its files and backends.
type stage struct {
	dir       string
	o         Options
	out       *gate
	authority *certs.Authority
	servers   []*http.Server
}

// gate drops what is written while it is shut: the self-test's sessions are told of
// in better words.
type gate struct {
	w    io.Writer
	open atomic.Bool
}

func (g *gate) Write(b []byte) (int, error) {
	if !g.open.Load() {
		return len(b), nil
	}
	return g.w.Write(b)
}

func (s *stage) close() {
	for _, srv := range s.servers {
		srv.Close()
	}
}

// configuration is what the demonstration runs by.
const configuration = `# Written by snicket demo.
[listeners.https]
address = "{{.Listen}}"

[[routes]]
name     = "pass"
hosts    = ["pass.demo.test"]
backends = ["{{.Pass}}"]

[[routes]]
name  = "term"
hosts = ["term.demo.test"]
mode  = "terminate"
backends = ["{{.Term}}"]

[[routes]]
name  = "both"
hosts = ["both.demo.test"]
mode  = "terminate"
pool  = "both"

[pools.both]
backends = ["{{.Both}}"]
[pools.both.tls]
server_name = "both.internal.test"
ca          = "ca.pem"
[pools.both.health]
interval = "10s"
timeout  = "10s" # a machine that stalls is no dead backend

[tls]
certificates = ["snicket.pem"]

[limits]
max_connections = 1000

[admin]
socket = "{{.Socket}}"

[log]
level = "warn"
`

// build starts the backends and writes the files.
func (s *stage) build() (err error) {
	if s.authority, err = certs.NewAuthority("Snicket demo CA"); err != nil {
		return err
	}
	if err := os.WriteFile(s.caFile(), s.authority.PEM(), 0o600); err != nil {
		return err
	}
	own, err := s.authority.Issue(certs.IssueOptions{
		CommonName: "snicket demo", Names: []string{"term.demo.test", "both.demo.test"},
	})
	if err != nil {
		return err
	}
	if err := writePair(filepath.Join(s.dir, "snicket"), own); err != nil {
		return err
	}
	values := struct{ Listen, Pass, Term, Both, Socket string }{Listen: freeAddress(), Socket: s.socket()}
	for _, b := range []struct {
		name, certificate string // "": plain
		address           *string
	}{
		{"passthrough", "pass.demo.test", &values.Pass},
		{"plain", "", &values.Term},
		{"re-encrypted", "both.internal.test", &values.Both},
	} {
		if *b.address, err = s.backend(b.name, b.certificate); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(filepath.Join(s.dir, "snicket.toml"), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	t, err := template.New("snicket.toml").Parse(configuration)
	if err != nil {
		return err
	}
	return t.Execute(f, values)
}

// socket is where the balancer can be looked at, if the name fits.
func (s *stage) socket() string {
	const most = 107 // unix(7)
	if path := filepath.Join(s.dir, "admin.sock"); len(path) <= most {
		return path
	}
	return config.AdminOff
}

func (s *stage) caFile() string { return filepath.Join(s.dir, "ca.pem") }

func writePair(path string, c *certs.Certificate) error {
	chain, key, err := c.PEM()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".pem", chain, 0o600); err != nil {
		return err
	}
	return os.WriteFile(path+".key", key, 0o600)
}

// freeAddress is the preferred address, or else any port.
func freeAddress() string {
	l, err := net.Listen("tcp", preferredAddress)
	if err != nil {
		return "127.0.0.1:0"
	}
	l.Close()
	return preferredAddress
}
