package server

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
)

const (
	// logRoom and accessRoom are the bytes that may wait for a reader of the log
	// and of the access log: about 1,000 lines and 10,000 records.
	logRoom    = 256 << 10
	accessRoom = 4 << 20
	// flushWait bounds how long an end, or a reload that changes the target, waits
	// for a reader that does not read.
	flushWait = time.Second
)

// logHandler is a slog.Handler whose level and format follow the configuration. What
// is worth a line at the default level is an event as well, whatever the level.
type logHandler struct {
	to     *atomic.Pointer[slog.Handler] // shared by all that derive from one another
	w      *outlet
	events *admin.Events
	attrs  []slog.Attr // of [slog.Logger.With]
	prefix string      // of [slog.Logger.WithGroup], with its dot
}

func newLogHandler(w *outlet, events *admin.Events) *logHandler {
	h := &logHandler{to: new(atomic.Pointer[slog.Handler]), w: w, events: events}
	h.configure(&config.Log{Format: "text"})
	return h
}

func (h *logHandler) configure(l *config.Log) {
	o := &slog.HandlerOptions{Level: l.Level, ReplaceAttr: inRecordTime}
	var next slog.Handler = slog.NewTextHandler(h.w, o)
	if l.Format == "json" {
		next = slog.NewJSONHandler(h.w, o)
	}
	h.to.Store(&next)
}

// recordTime is the form of times in records of sessions: both logs have one.
const recordTime = "2006-01-02T15:04:05.000Z07:00"

// inRecordTime gives the time of a line that form, in UTC.
func inRecordTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
		a.Value = slog.StringValue(a.Value.Time().UTC().Format(recordTime))
	}
	return a
}

// Enabled implements slog.Handler.
func (h *logHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelInfo || (*h.to.Load()).Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	full := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	full.AddAttrs(h.attrs...)
	r.Attrs(func(a slog.Attr) bool {
		full.AddAttrs(h.prefixed(a))
		return true
	})
	if r.Level >= slog.LevelInfo {
		h.events.Add(eventOf(&full))
	}
	if to := *h.to.Load(); to.Enabled(ctx, r.Level) {
		return to.Handle(ctx, full)
	}
	return nil
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(as []slog.Attr) slog.Handler {
	next := *h
	next.attrs = slices.Clip(next.attrs)
	for _, a := range as {
		next.attrs = append(next.attrs, h.prefixed(a))
	}
	return &next
}

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler {
	next := *h
	if name != "" {
		next.prefix += name + "."
	}
	return &next
}

func (h *logHandler) prefixed(a slog.Attr) slog.Attr {
	a.Key = h.prefix + a.Key
	return a
}

// eventOf is a line of the log as an event.
func eventOf(r *slog.Record) admin.Event {
	e := admin.Event{Time: r.Time, Level: strings.ToLower(r.Level.String()), Message: r.Message, Attrs: []admin.Attribute{}}
	r.Attrs(func(a slog.Attr) bool {
		e.Attrs = append(e.Attrs, admin.Attribute{Key: a.Key, Value: a.Value.Resolve().String()})
		return true
	})
	return e
}

// accessTarget is where records go by one configuration.
type accessTarget struct {
	outlet *outlet       // nil: nowhere
	file   *os.File      // below outlet, if it is the target's own
	syslog *syslogWriter // below outlet, if it is syslog
	format proxy.LogFormat
	sample float64 // of records with the outcome ok
}

// open opens the target of l. A file is opened anew at each reload, which is how it
// is rotated. Neither a FIFO without a reader nor one that is not read makes it wait.
// The error is a *[ConfigError].
func (a *accessLog) open(l *config.Log) (accessTarget, error) {
	t := accessTarget{sample: l.Sample}
	if l.Format == "json" {
		t.format = proxy.JSONLog
	}
	switch l.Access {
	case config.AccessOff:
	case config.AccessStdout:
		t.outlet = a.stdout
	case config.AccessSyslog:
		w, err := dialSyslog(a.syslog)
		if err != nil {
			return t, &ConfigError{config.Problems{accessProblem(l, err)}}
		}
		t.syslog, t.outlet = w, a.watched(newOutlet(w, accessRoom, false))
	default:
		f, err := os.OpenFile(l.Access, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NONBLOCK, 0o640)
		if err != nil {
			return t, &ConfigError{config.Problems{accessProblem(l, err)}}
		}
		t.outlet, t.file = a.watched(newOutlet(f, accessRoom, endsTorn(l.Access))), f
	}
	return t, nil
}

// accessProblem is that the access log cannot be opened.
func accessProblem(l *config.Log, err error) config.Problem {
	p := config.Problem{Pos: l.AccessPos, Text: "access log: " + err.Error()}
	switch {
	case l.Access == config.AccessSyslog:
		p.Hint = "no syslog listens here; name a file"
	case errors.Is(err, syscall.ENXIO):
		p.Hint = "it is a FIFO without a reader; start the reader first"
	case errors.Is(err, syscall.EISDIR):
		p.Hint = "name a file in it"
	case errors.Is(err, fs.ErrNotExist):
		p.Hint = "create the directory"
	case errors.Is(err, fs.ErrPermission):
		p.Hint = "let the user that runs snicket write there"
	}
	return p
}

// endsTorn reports whether a file ends in the middle of a line, as a full disk
// leaves it. One that cannot be told is taken as whole.
func endsTorn(path string) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var last [1]byte
	_, err = f.ReadAt(last[:], info.Size()-1)
	return err == nil && last[0] != '\n'
}

// end gives up the target, and returns how many records it has lost; the standard
// output stays open.
func (t accessTarget) end(deadline time.Time) uint64 {
	if t.outlet == nil {
		return 0
	}
	switch {
	case t.file != nil:
		defer t.file.Close()
	case t.syslog != nil:
		defer t.syslog.Close()
	default:
		t.outlet.flush(deadline)
		return 0
	}
	return t.outlet.end(deadline)
}

// accessLog is the proxy's log with the target that it writes to.
type accessLog struct {
	log    *proxy.AccessLog
	failed func(error)
	mended func(lost uint64)
	stdout *outlet
	syslog string // where it is
	on     atomic.Bool
	sample atomic.Uint64 // bits of the share of records with the outcome ok

	// target belongs to the one reload that there is at a time.
	target accessTarget
	lost   atomic.Uint64          // by former targets
	now    atomic.Pointer[outlet] // of target, for those who count; nil: none
}

func newAccessLog(stdout io.Writer, syslog string, failed func(error), mended func(lost uint64)) *accessLog {
	a := &accessLog{syslog: syslog, log: proxy.NewAccessLog(io.Discard, proxy.TextLog), failed: failed, mended: mended}
	a.stdout = a.watched(newOutlet(stdout, accessRoom, false))
	return a
}

// watched returns o, of whose trouble the log tells.
func (a *accessLog) watched(o *outlet) *outlet {
	o.failed, o.mended = a.failed, a.mended
	return o
}

// write is for the proxy.
func (a *accessLog) write(r *proxy.Record) {
	if !a.on.Load() {
		return
	}
	if share := math.Float64frombits(a.sample.Load()); r.Outcome == proxy.OK && share < 1 && rand.Float64() >= share {
		return
	}
	a.log.Write(r)
}

// redirect puts t into force and returns the former target, which has got all that
// was written before and is to be retired.
func (a *accessLog) redirect(t accessTarget) (former accessTarget) {
	w := io.Writer(io.Discard)
	if t.outlet != nil {
		w = t.outlet
	}
	a.log.Redirect(w, t.format)
	a.sample.Store(math.Float64bits(t.sample))
	a.on.Store(t.outlet != nil)
	former, a.target = a.target, t
	a.now.Store(t.outlet)
	return former
}

// retire ends a former target; it waits for its reader no longer than flushWait.
func (a *accessLog) retire(former accessTarget) {
	a.lost.Add(former.end(time.Now().Add(flushWait)))
}

// end ends the log and returns how many records were lost in all.
func (a *accessLog) end(deadline time.Time) uint64 {
	a.lost.Add(a.redirect(accessTarget{}).end(deadline))
	return a.lost.Load() + a.stdout.end(deadline)
}

// dropped is how many records were lost so far. Any goroutine may ask.
func (a *accessLog) dropped() uint64 {
	lost := a.lost.Load() + a.stdout.dropped()
	if now := a.now.Load(); now != nil && now != a.stdout {
		lost += now.dropped()
	}
	return lost
}
