package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/mholt/acmez/v3/acme"
	"go.uber.org/zap/zapcore"
)

// logCore takes certmagic's log. What an operator must know of, certmagic tells by
// events as well, and [Manager.event] says it in our words; so the log's errors are
// warnings here, its steps are for debugging, and what the events say is left out.
type logCore struct {
	log    *slog.Logger
	closed func() bool
	fields []zapcore.Field
}

var _ zapcore.Core = (*logCore)(nil)

// told reports whether an event tells of the same.
func told(message string, fields map[string]any) bool {
	switch message {
	case "HTTP request failed; retrying", "challenge failed", "validating authorization",
		"could not get certificate from issuer", "will retry":
		return true
	case "job failed":
		text, _ := fields["error"].(string)
		return strings.Contains(text, "] Renew: ")
	}
	return false
}

// Enabled reports whether a line of that level is wanted.
func (c *logCore) Enabled(l zapcore.Level) bool {
	return c.log.Enabled(context.Background(), levelOf(l))
}

func levelOf(l zapcore.Level) slog.Level {
	if l >= zapcore.WarnLevel {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// With returns a core that adds fields to each line.
func (c *logCore) With(fields []zapcore.Field) zapcore.Core {
	with := *c
	with.fields = slices.Concat(c.fields, fields)
	return &with
}

// Check adds c to those that write e.
func (c *logCore) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return to.AddCore(e, c)
	}
	return to
}

// Write writes one line. What goes wrong because the Manager has been closed is no news.
func (c *logCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range slices.Concat(c.fields, fields) {
		f.AddTo(enc)
	}
	level := levelOf(e.Level)
	if told(e.Message, enc.Fields) || c.closed() {
		level = slog.LevelDebug
	}
	attrs := []slog.Attr{slog.String("detail", e.Message)}
	for _, key := range slices.Sorted(maps.Keys(enc.Fields)) {
		attrs = append(attrs, slog.Any(key, enc.Fields[key]))
	}
	c.log.LogAttrs(context.Background(), level, "acme", attrs...)
	return nil
}

// Sync does nothing: lines are written at once.
func (c *logCore) Sync() error { return nil }

// hintFor says what an operator can do about an error.
func hintFor(err error) string {
	if problem, ok := errors.AsType[acme.Problem](err); ok {
		return hintForProblem(problem.Type)
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "ca in [acme] names the roots of the directory's own TLS"
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return "the directory must be reachable from this machine, or through HTTPS_PROXY"
	}
	// What certmagic finds when it tries to write has no type.
	if _, ok := errors.AsType[*fs.PathError](err); ok || strings.Contains(err.Error(), "failed storage check") {
		return "the user that runs snicket must be able to read and write storage of [acme]"
	}
	return "it is tried again by itself"
}

func hintForProblem(kind string) string {
	switch kind {
	case acme.ProblemTypeRateLimited:
		return "the authority limits how much it issues; it is tried again by itself, less and less often"
	case acme.ProblemTypeConnection, acme.ProblemTypeTLS, acme.ProblemTypeUnauthorized, acme.ProblemTypeIncorrectResponse:
		return "the authority must reach this balancer at the host's address, on port 443 or, with a listener of kind http, on port 80"
	case acme.ProblemTypeDNS:
		return "the host needs an address in the public DNS, which leads here"
	case acme.ProblemTypeCAA:
		return "a CAA record of the host's domain forbids this authority"
	case acme.ProblemTypeExternalAccountRequired:
		return "external_account in [acme] takes what the authority gave you"
	case acme.ProblemTypeRejectedIdentifier:
		return "the authority issues nothing for this host"
	}
	return "it is tried again by itself, less and less often"
}
