package server

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/config"
)

// Lines have their times as records of sessions do, in either format and wherever the
// machine stands.
func TestLogTimes(t *testing.T) {
	at := time.Date(2026, 3, 1, 2, 30, 0, 123456789, time.FixedZone("east", 5*3600+1800))
	for _, tc := range []struct{ format, want string }{
		{"text", "time=2026-02-28T21:00:00.123Z level=INFO msg=ready\n"},
		{"json", `{"time":"2026-02-28T21:00:00.123Z","level":"INFO","msg":"ready"}` + "\n"},
	} {
		var w script
		o := newOutlet(&w, 1<<10, false)
		h := newLogHandler(o, admin.NewEvents())
		h.configure(&config.Log{Format: tc.format})
		if err := h.Handle(t.Context(), slog.NewRecord(at, slog.LevelInfo, "ready", 0)); err != nil {
			t.Fatal(err)
		}
		o.flush(time.Now().Add(lab.Patience))
		if got := w.String(); got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.format, strings.TrimSpace(got), tc.want)
		}
	}
}
