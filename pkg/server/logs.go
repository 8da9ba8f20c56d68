package server

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// logHandler is a slog.Handler whose level and format follow the configuration.
// Loggers that [slog.Logger.With] derives keep those of their making.
type logHandler struct {
	w  io.Writer
	mu *sync.Mutex // writes of a former and the present handler keep apart
	to atomic.Pointer[slog.Handler]
}

func newLogHandler(w io.Writer) *logHandler {
	h := &logHandler{w: w, mu: new(sync.Mutex)}
	h.configure(&config.Log{Format: "text"})
	return h
}

func (h *logHandler) configure(l *config.Log) {
	o := &slog.HandlerOptions{Level: l.Level}
	var next slog.Handler = slog.NewTextHandler(lockedWriter{h.mu, h.w}, o)
	if l.Format == "json" {
		next = slog.NewJSONHandler(lockedWriter{h.mu, h.w}, o)
	}
	h.to.Store(&next)
}

func (h *logHandler) current() slog.Handler { return *h.to.Load() }

// Enabled, Handle, WithAttrs and WithGroup are those of the present handler.
func (h *logHandler) Enabled(ctx context.Context, l slog.Level) bool {
	return h.current().Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	return h.current().Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(as []slog.Attr) slog.Handler { return h.current().WithAttrs(as) }

// WithGroup implements slog.Handler.
func (h *logHandler) WithGroup(name string) slog.Handler { return h.current().WithGroup(name) }

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(b)
}

// accessTarget is where records go by one configuration.
type accessTarget struct {
	w      io.Writer // nil: nowhere
	file   *os.File  // w, if it is to be closed
	format proxy.LogFormat
}

// openAccess opens the target of l. A file is opened anew at each reload, which is
// how it is rotated.
func openAccess(l *config.Log, stdout io.Writer) (accessTarget, error) {
	var t accessTarget
	if l.Format == "json" {
		t.format = proxy.JSONLog
	}
	switch l.Access {
	case config.AccessOff:
	case config.AccessStdout:
		t.w = stdout
	default:
		f, err := os.OpenFile(l.Access, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
		if err != nil {
			return t, fmt.Errorf("access log: %w", err)
		}
		t.w, t.file = f, f
	}
	return t, nil
}

func (t accessTarget) close() {
	if t.file != nil {
		t.file.Close()
	}
}

// accessLog is the proxy's log with the target that it writes to.
type accessLog struct {
	log    *proxy.AccessLog
	on     atomic.Bool
	target accessTarget
}

func newAccessLog(failed func(error)) *accessLog {
	return &accessLog{log: proxy.NewAccessLog(io.Discard, proxy.TextLog, failed)}
}

// write is for the proxy.
func (a *accessLog) write(r *proxy.Record) {
	if a.on.Load() {
		a.log.Write(r)
	}
}

// redirect puts t into force and closes the former target.
func (a *accessLog) redirect(t accessTarget) {
	w := t.w
	if w == nil {
		w = io.Discard
	}
	a.log.Redirect(w, t.format)
	a.on.Store(t.w != nil)
	a.target.close()
	a.target = t
}
