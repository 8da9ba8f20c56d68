package web

import (
	"errors"
	"net/http"
)

// maxInterim bounds the interim responses (1xx) before an answer, for which net/http has
// no bound where they are passed on. Who says every few seconds that it is at work (102)
// may do so for hours.
const maxInterim = 1000

// errInterim says that a backend goes on and on before its answer.
var errInterim = errors.New("more than 1000 interim responses before an answer")

// interim is the ResponseWriter of an exchange, which minds the interim responses.
type interim struct {
	http.ResponseWriter
	x *exchange
	n int
}

// Unwrap returns the ResponseWriter below, for http.ResponseController.
func (w *interim) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// WriteHeader counts interim responses, and leaves them out for a client that knows none:
// it would take the first for the answer (RFC 9110 §15.2).
func (w *interim) WriteHeader(status int) {
	if status >= http.StatusOK || status == http.StatusSwitchingProtocols {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.x.stamp()
	if w.n++; w.n > maxInterim {
		w.x.cancel(errInterim)
		return
	}
	if w.x.in.ProtoAtLeast(1, 1) {
		w.ResponseWriter.WriteHeader(status)
	}
}
