package admin

import (
	"io"
	"net/http"
	"time"
)

// stream is an answer without an end, for those who have got one of a few seats. It ends
// when the client leaves, which is heard of by reading on: so whoever sends a body, or
// only asks what a GET would answer (HEAD), gets none.
func stream(s *seats, hint string, h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodHead:
			return
		case r.ContentLength != 0:
			w.Header().Set("Connection", "close") // nobody reads it
			answer(w, nil, BadRequest("a request with a body", "leave it out"))
			return
		}
		origin := originFrom(r.Context())
		if !s.take(origin) {
			answer(w, nil, refuse(http.StatusServiceUnavailable, "too many do that already", hint))
			return
		}
		defer s.leave(origin)
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // it has all been read
		h(w, r)
	}
}

// followEvents answers the events that are kept, and those to come, one JSON object a
// line, until the client leaves or does not take one within eventTime.
func (s *Server) followEvents(w http.ResponseWriter, r *http.Request) {
	after, err := eventsAfter(r)
	if err != nil {
		answer(w, nil, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	control := http.NewResponseController(w)
	if control.Flush() != nil { // the header, so that the client knows that it is heard
		return
	}
	_ = s.o.Events.Follow(r.Context(), after, func(e Event) error {
		if err := control.SetWriteDeadline(time.Now().Add(eventTime)); err != nil {
			return err
		}
		if err := WriteJSON(w, e, ""); err != nil {
			return err
		}
		return control.Flush()
	})
}

// writeEvent writes one line as a server-sent event.
func writeEvent(w io.Writer, control *http.ResponseController, text []byte) error {
	if err := control.SetWriteDeadline(time.Now().Add(eventTime)); err != nil {
		return err
	}
	for _, part := range [][]byte{[]byte("data: "), text, []byte("\n\n")} {
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return control.Flush()
}
