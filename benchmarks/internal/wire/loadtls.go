package wire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// tlsLoad is a load that terminates: a goroutine for each session, as crypto/tls needs one.
type tlsLoad struct {
	spec   Spec
	stop   chan struct{}
	group  sync.WaitGroup
	window atomic.Bool

	sessions, bytes, resumed, failed, held atomic.Int64

	mu        sync.Mutex // guards the fields below
	first     string
	latencies []int64
}

// LoadTLS runs spec against a balancer that terminates TLS 1.3 and returns what it saw. It does not verify
// certificates: that costs the client alone. Its error says that the measurement could not be made.
func LoadTLS(spec Spec) (r Result, err error) {
	l := &tlsLoad{spec: spec, stop: make(chan struct{})}
	m, err := newMeter(spec.Pid)
	if err != nil {
		return r, err
	}
	defer l.group.Wait()
	defer close(l.stop)
	if spec.Idle > 0 {
		if r.Before, r.BeforeFiles, err = m.memory(); err != nil {
			return r, err
		}
		if err := l.hold(); err != nil {
			return r, err
		}
		<-time.After(settleTime)
		r.Idle = spec.Idle
		if r.After, r.AfterFiles, err = m.memory(); err != nil {
			return r, err
		}
	}
	if spec.New == 0 && spec.Pull == 0 {
		return r, nil
	}
	for range spec.New {
		l.group.Go(l.shorts)
	}
	for range spec.Pull {
		l.group.Go(l.download)
	}
	<-time.After(spec.Warm)
	sessions, count, resumed := l.sessions.Load(), l.bytes.Load(), l.resumed.Load()
	l.window.Store(true)
	if err := m.start(); err != nil {
		return r, err
	}
	<-time.After(spec.Window)
	err = m.stop(&r)
	l.window.Store(false)
	r.Sessions, r.Bytes, r.Resumed = l.sessions.Load()-sessions, l.bytes.Load()-count, l.resumed.Load()-resumed
	r.Failed = l.failed.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Error, r.Session = l.first, latency(l.latencies)
	return r, err
}

func (l *tlsLoad) config() *tls.Config {
	c := &tls.Config{
		ServerName: Name(0), InsecureSkipVerify: true, MinVersion: tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519},
	}
	if l.spec.Hybrid {
		c.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768}
	}
	if l.spec.Resume {
		c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	return c
}

// connect opens a session and gives the command.
func (l *tlsLoad) connect(c *tls.Config, command Command) (*tls.Conn, error) {
	raw, err := net.DialTimeout("tcp", l.spec.Address.String(), stuckAfter)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, c)
	if err := raw.SetDeadline(time.Now().Add(stuckAfter)); err != nil {
		raw.Close()
		return nil, err
	}
	if err := conn.Handshake(); err != nil {
		raw.Close()
		return nil, fmt.Errorf("handshake: %w", err)
	}
	if _, err := conn.Write(command.Append(nil)); err != nil {
		raw.Close()
		return nil, err
	}
	return conn, nil
}

func (l *tlsLoad) shorts() {
	c := l.config()
	buf := make([]byte, answerSize)
	for !l.stopped() {
		began := time.Now()
		if err := l.one(c, buf); err != nil {
			l.fail(err)
			continue
		}
		if took := int64(time.Since(began)); l.window.Load() {
			l.mu.Lock()
			l.latencies = append(l.latencies, took)
			l.mu.Unlock()
		}
	}
}

// one runs a short session to its end.
func (l *tlsLoad) one(c *tls.Config, buf []byte) error {
	conn, err := l.connect(c, Command{Mode: Answer, Size: answerSize})
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.ReadFull(conn, buf); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	// Not every peer says close_notify; that it closes is what counts here.
	if n, err := conn.Read(buf); n > 0 || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%d bytes behind the answer: %w", n, err)
	}
	l.sessions.Add(1)
	if conn.ConnectionState().DidResume {
		l.resumed.Add(1)
	}
	return nil
}

func (l *tlsLoad) download() {
	conn, err := l.connect(l.config(), Command{Mode: Stream})
	if err == nil {
		defer conn.Close()
		err = conn.SetDeadline(time.Time{})
	}
	buf := make([]byte, 64<<10)
	for err == nil && !l.stopped() {
		var n int
		n, err = conn.Read(buf)
		l.bytes.Add(int64(n))
	}
	if err != nil {
		l.fail(err)
	}
}

// hold opens the idle sessions and leaves them open, each with a goroutine that waits for the end of the load.
func (l *tlsLoad) hold() error {
	c := l.config()
	places := make(chan struct{}, openAtOnce)
	var opening sync.WaitGroup
	for range l.spec.Idle {
		places <- struct{}{}
		opening.Go(func() {
			defer func() { <-places }()
			conn, err := l.connect(c, Command{Mode: Hold})
			if err == nil {
				if _, err = conn.Read(make([]byte, 1)); err == nil {
					l.held.Add(1)
					l.group.Go(func() {
						<-l.stop
						conn.NetConn().Close()
					})
					return
				}
				conn.NetConn().Close()
			}
			l.fail(err)
		})
	}
	opening.Wait()
	if n := l.held.Load(); n < int64(l.spec.Idle) {
		return fmt.Errorf("%d of %d sessions held: %s", n, l.spec.Idle, l.first)
	}
	return nil
}

func (l *tlsLoad) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

func (l *tlsLoad) fail(err error) {
	if l.failed.Add(1) == 1 {
		l.mu.Lock()
		l.first = err.Error()
		l.mu.Unlock()
	}
}
