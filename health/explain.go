package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// explain turns the error of a phase of a probe into the operator's words,
// without the addresses and layers that the operator knows already. What it
// wraps still answers errors.Is.
func explain(phase string, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s: %w", phase, context.Canceled)
	}
	if isTimeout(err) {
		return fmt.Errorf("%s: %w", phase, os.ErrDeadlineExceeded)
	}
	if refused := certificate(err); refused != nil {
		return refused
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return fmt.Errorf("resolve: %q: %s", dns.Name, dns.Err)
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return fmt.Errorf("%s: %w", phase, errno)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: connection closed by the backend", phase)
	}
	alert := isAlert(err)
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if alert {
		phase += ": alert from the backend"
	}
	return fmt.Errorf("%s: %s", phase, brief(strings.TrimPrefix(err.Error(), "tls: ")))
}

// ErrNoAnswer is returned, or wrapped, by a [Prober] whose backend accepted the
// connection and then said nothing until the deadline. It wraps
// os.ErrDeadlineExceeded; [Try] and a [Checker] add how long that was: "no answer
// within 1s".
var ErrNoAnswer error = silence{}

type silence struct{}

func (silence) Error() string { return "no answer" }
func (silence) Unwrap() error { return os.ErrDeadlineExceeded }

// brief cuts a text that may quote what a backend sent to the length of a log
// line.
func brief(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// unverified returns the certificates that a handshake failed for.
func unverified(err error) []*x509.Certificate {
	if verify, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return verify.UnverifiedCertificates
	}
	return nil
}

// certificate puts into words why a certificate was not accepted; nil if err is
// about something else.
func certificate(err error) error {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	if ok && invalid.Reason == x509.Expired {
		return &certificateError{text: validity(invalid.Cert, time.Now()), err: err}
	}
	verify, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok {
		return nil
	}
	text := strings.TrimPrefix(verify.Err.Error(), "x509: ")
	if !strings.HasPrefix(text, "certificate ") {
		text = "certificate not accepted: " + text
	}
	return &certificateError{text: text, err: err}
}

// certificateError says what is wrong with a certificate in text, and wraps the
// error that tells a program.
type certificateError struct {
	text string
	err  error
}

func (e *certificateError) Error() string { return e.text }
func (e *certificateError) Unwrap() error { return e.err }

// validity says how a certificate's time lies to now.
func validity(cert *x509.Certificate, now time.Time) string {
	if now.Before(cert.NotBefore) {
		return "certificate not valid before " + cert.NotBefore.UTC().Format(time.RFC3339)
	}
	return "certificate expired " + ago(now.Sub(cert.NotAfter)) + " ago"
}

// ago returns a length of time in its largest whole unit: "3 days", "1 hour".
func ago(d time.Duration) string {
	const day = 24 * time.Hour
	n, unit := int64(d/day), "day"
	if d < day {
		n, unit = int64(d/time.Hour), "hour"
	}
	if d < time.Hour {
		n, unit = int64(d/time.Minute), "minute"
	}
	return count(int(n), unit)
}

// count returns a number of things: "1 day", "3 days".
func count(n int, unit string) string {
	if n != 1 {
		unit += "s"
	}
	return strconv.Itoa(n) + " " + unit
}
