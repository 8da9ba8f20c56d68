package server

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/snicketlb/snicket/pkg/config"
)

// keyLogRoom is the bytes that may wait for a file of secrets: those of some hundred
// sessions.
const keyLogRoom = 256 << 10

// keyLog is a file of the secrets of sessions, in the format of RFC 9850, which Wireshark
// reads. Whoever has it can read what the sessions said. It takes writes from any
// goroutine, and makes none wait; what has no room is lost, which is counted and told.
type keyLog struct {
	file   config.File
	routes []string
	to     atomic.Pointer[outlet] // nil: not open
	opened *os.File
}

// Write implements io.Writer; it never fails.
func (k *keyLog) Write(b []byte) (int, error) {
	if to := k.to.Load(); to != nil {
		return to.Write(b)
	}
	return len(b), nil
}

// keyLogs are those of a plan, one for each file.
type keyLogs []*keyLog

// of returns the log of a route that has one; it is opened later.
func (l *keyLogs) of(r *config.Route) *keyLog {
	i := slices.IndexFunc(*l, func(k *keyLog) bool { return k.file.Path == r.TLS.KeyLog.Path })
	if i < 0 {
		i = len(*l)
		*l = append(*l, &keyLog{file: r.TLS.KeyLog})
	}
	k := (*l)[i]
	k.routes = append(k.routes, r.Name)
	return k
}

// open opens all files, or none. They are appended to, and opened anew at each reload,
// which is how they are rotated. The error is a *[ConfigError].
func (l keyLogs) open(log *slog.Logger) error {
	for _, k := range l {
		f, problem := openSecret(k.file)
		if problem != nil {
			l.end(time.Now())
			return &ConfigError{config.Problems{*problem}}
		}
		to := newOutlet(f, keyLogRoom, endsTorn(k.file.Path))
		to.failed = func(err error) {
			log.Error("key log loses secrets", slog.String("file", k.file.Path), slog.Any("error", err))
		}
		to.mended = func(lost uint64) {
			log.Warn("key log is written again", slog.String("file", k.file.Path), slog.Uint64("lost", lost))
		}
		k.opened = f
		k.to.Store(to)
	}
	return nil
}

// openSecret opens a file that nobody else may read.
func openSecret(file config.File) (*os.File, *config.Problem) {
	problem := func(err error) *config.Problem {
		p := accessProblem(&config.Log{AccessPos: file.Pos}, err)
		p.Text = "key_log: " + err.Error()
		return &p
	}
	f, err := os.OpenFile(file.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, problem(err)
	}
	info, err := f.Stat()
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		p := problem(fmt.Errorf("%s can be read or written by other users (mode %04o)", file.Path, info.Mode().Perm()))
		p.Hint = "chmod 600 " + file.Path
		_ = f.Close()
		return nil, p
	}
	if err != nil {
		_ = f.Close()
		return nil, problem(err)
	}
	return f, nil
}

// warn says, each time that they are put into force, that secrets are written.
func (l keyLogs) warn(log *slog.Logger) {
	for _, k := range l {
		log.Warn("secrets of TLS sessions are written to a file: whoever reads it can read what clients send and get",
			slog.String("file", k.file.Path), slog.String("routes", strings.Join(k.routes, " ")))
	}
}

// end closes the files, having waited for what was written before until deadline. It
// returns how many lines were lost.
func (l keyLogs) end(deadline time.Time) (lost uint64) {
	for _, k := range l {
		to := k.to.Swap(nil)
		if to == nil {
			continue
		}
		lost += to.end(deadline)
		_ = k.opened.Close()
	}
	return lost
}
