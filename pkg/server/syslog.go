package server

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// systemSyslog is where syslog, or journald in its place, listens.
const systemSyslog = "/dev/log"

const (
	// syslogWait bounds how long a message waits for a syslog that is there to take it.
	syslogWait = time.Second
	// syslogAway is how long one that is gone is waited for: a restart. Until it is over
	// records wait in their outlet.
	syslogAway = 5 * time.Second
	// syslogAgain is how often it is looked for.
	syslogAgain = 50 * time.Millisecond
)

// syslogPriority is facility daemon, severity info (RFC 3164 §4.1.1).
const syslogPriority = 3*8 + 6

// syslogWriter sends each line to a Unix socket as one message in the form that local
// programs send (RFC 3164 §4.1.2, without a host): by datagrams, or where syslog listens
// for streams with a NUL behind each, as syslog(3) does. It connects anew when syslog was
// restarted. What syslog had not read when it ended is lost, and nobody is told.
type syslogWriter struct {
	path       string
	tag        []byte
	wait, away time.Duration // syslogWait, syslogAway
	ending     chan struct{} // closed by Close
	end        sync.Once

	mu     sync.Mutex // guards the fields below
	conn   net.Conn   // nil: broken
	stream bool       // conn is one
	buf    []byte
}

// dialSyslog connects to the syslog at path.
func dialSyslog(path string) (*syslogWriter, error) {
	s := &syslogWriter{
		path: path, tag: []byte(" snicket[" + strconv.Itoa(os.Getpid()) + "]: "),
		wait: syslogWait, away: syslogAway, ending: make(chan struct{}),
	}
	return s, s.dialLocked()
}

// syslogListens returns nil when a syslog listens at path.
func syslogListens(path string) error {
	s, err := dialSyslog(path)
	s.Close()
	return err
}

// Write sends whole lines, and returns how many bytes of them syslog has taken, or else
// skipped. Of one line too long for a datagram, the error is a *[skippedError]: the others
// were taken.
func (s *syslogWriter) Write(lines []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var skipped skippedError
	done := 0
	for line := range bytes.Lines(lines) {
		s.messageLocked(bytes.TrimSuffix(line, []byte{'\n'}))
		switch err := s.sendLocked(); {
		case errors.Is(err, syscall.EMSGSIZE):
			skipped.lines++
			skipped.why = fmt.Errorf("a record of %d bytes is more than syslog takes: %w", len(line), err)
		case err != nil:
			skipped.why = err
			return done, &skipped
		}
		done += len(line)
	}
	if skipped.lines > 0 {
		return done, &skipped
	}
	return done, nil
}

// messageLocked makes buf a message of text.
func (s *syslogWriter) messageLocked(text []byte) {
	s.buf = fmt.Appendf(s.buf[:0], "<%d>", syslogPriority)
	s.buf = time.Now().AppendFormat(s.buf, time.Stamp)
	s.buf = append(append(s.buf, s.tag...), text...)
}

// sendLocked sends buf. It waits for a syslog that is gone, but not for one that takes
// nothing.
func (s *syslogWriter) sendLocked() error {
	var giveUp, again <-chan time.Time
	for {
		err := s.tryLocked()
		if err == nil || errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if giveUp == nil {
			giveUp, again = time.After(s.away), time.After(0)
		}
		select {
		case <-again:
			again = time.After(syslogAgain)
		case <-giveUp:
			return err
		case <-s.ending:
			return err
		}
	}
}

func (s *syslogWriter) tryLocked() error {
	if s.conn == nil {
		if err := s.dialLocked(); err != nil {
			return err
		}
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.wait)); err != nil {
		return err
	}
	message := s.buf
	if s.stream {
		message = append(message, 0)
		s.buf = message[:len(message)-1]
	}
	_, err := s.conn.Write(message)
	if err != nil && !errors.Is(err, syscall.EMSGSIZE) {
		s.closeLocked()
	}
	return err
}

func (s *syslogWriter) dialLocked() error {
	conn, err := net.Dial("unixgram", s.path)
	s.stream = errors.Is(err, syscall.EPROTOTYPE)
	if s.stream {
		conn, err = net.Dial("unix", s.path)
	}
	if err == nil {
		s.conn = conn
	}
	return err
}

// Close closes the connection. A message under way is given up when syslog is gone, and
// has its time when it is there.
func (s *syslogWriter) Close() {
	s.end.Do(func() { close(s.ending) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeLocked()
}

func (s *syslogWriter) closeLocked() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}
