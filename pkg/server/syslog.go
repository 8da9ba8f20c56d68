package server

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// systemSyslog is where syslog, or journald in its place, listens.
const systemSyslog = "/dev/log"

// syslogWait bounds how long a message waits for syslog to take it.
const syslogWait = time.Second

// syslogPriority is facility daemon, severity info (RFC 3164 §4.1.1).
const syslogPriority = 3*8 + 6

// syslogWriter sends each line to a Unix datagram socket as one message in the form
// that local programs send (RFC 3164 §4.1.2, without a host). It connects anew when
// syslog was restarted.
type syslogWriter struct {
	path string
	tag  []byte

	mu   sync.Mutex // guards the fields below
	conn net.Conn   // nil: broken
	buf  []byte
}

// dialSyslog connects to the syslog at path.
func dialSyslog(path string) (*syslogWriter, error) {
	conn, err := net.Dial("unixgram", path)
	if err != nil {
		return nil, err
	}
	return &syslogWriter{path: path, tag: []byte(" snicket[" + strconv.Itoa(os.Getpid()) + "]: "), conn: conn}, nil
}

// Write sends whole lines, and returns how many bytes of them syslog has taken.
func (s *syslogWriter) Write(lines []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := 0
	for line := range bytes.Lines(lines) {
		if err := s.sendLocked(bytes.TrimSuffix(line, []byte{'\n'})); err != nil {
			return taken, err
		}
		taken += len(line)
	}
	return taken, nil
}

// sendLocked sends one message; over a connection of before once more, if that is
// broken.
func (s *syslogWriter) sendLocked(text []byte) error {
	s.buf = fmt.Appendf(s.buf[:0], "<%d>", syslogPriority)
	s.buf = time.Now().AppendFormat(s.buf, time.Stamp)
	s.buf = append(append(s.buf, s.tag...), text...)
	former := s.conn != nil
	err := s.tryLocked()
	if err != nil && former && !errors.Is(err, os.ErrDeadlineExceeded) {
		err = s.tryLocked()
	}
	return err
}

func (s *syslogWriter) tryLocked() error {
	if s.conn == nil {
		conn, err := net.Dial("unixgram", s.path)
		if err != nil {
			return err
		}
		s.conn = conn
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(syslogWait)); err != nil {
		return err
	}
	if _, err := s.conn.Write(s.buf); err != nil {
		s.closeLocked()
		return err
	}
	return nil
}

// Close closes the connection, once a message under way was taken or has had its time.
func (s *syslogWriter) Close() {
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
