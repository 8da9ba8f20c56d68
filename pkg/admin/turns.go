package admin

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// turns bounds how many answers are being made at a time, in all and for one origin.
// Further ones wait in the order in which they came, but that those of an origin with its
// share let others pass.
type turns struct {
	bound

	mu    sync.Mutex // guards the fields below
	taken map[string]int
	n     int
	queue []*turn
}

type turn struct {
	origin string
	come   chan struct{} // closed when it has come
}

func newTurns(b bound) *turns { return &turns{bound: b, taken: map[string]int{}} }

// take waits for a turn until ctx is done, and reports whether it has come. Who has got
// one gives it back.
func (t *turns) take(ctx context.Context, origin string) bool {
	w := &turn{origin, make(chan struct{})}
	t.mu.Lock()
	t.queue = append(t.queue, w)
	t.next()
	t.mu.Unlock()
	select {
	case <-w.come:
		return true
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.queue, w); i >= 0 {
		t.queue = slices.Delete(t.queue, i, i+1)
		return false
	}
	return true // it came at the same instant
}

func (t *turns) giveBack(origin string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n--
	if t.taken[origin]--; t.taken[origin] == 0 {
		delete(t.taken, origin)
	}
	t.next()
}

// next gives turns to whom there are any for. The caller holds mu.
func (t *turns) next() {
	t.queue = slices.DeleteFunc(t.queue, func(w *turn) bool {
		if t.n >= t.most || t.taken[w.origin] >= t.share {
			return false
		}
		t.n++
		t.taken[w.origin]++
		close(w.come)
		return true
	})
}

// seats bounds how many of a kind there are, in all and of one origin. None waits.
type seats struct {
	bound

	mu    sync.Mutex // guards the fields below
	taken map[string]int
	n     int
}

func newSeats(b bound) *seats { return &seats{bound: b, taken: map[string]int{}} }

// take reports whether there is a seat; who has got one leaves it.
func (s *seats) take(origin string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n >= s.most || s.taken[origin] >= s.share {
		return false
	}
	s.n++
	s.taken[origin]++
	return true
}

func (s *seats) leave(origin string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n--
	if s.taken[origin]--; s.taken[origin] == 0 {
		delete(s.taken, origin)
	}
}

// shelf keeps answers until their clients have taken them, up to a number of bytes. When
// there is no room for one more, the one that has waited for the longest time is cut off:
// a client that does not read costs others nothing.
type shelf struct {
	most int // bytes

	mu      sync.Mutex // guards the fields below
	held    int
	answers []*shelved // the first that came first
}

type shelved struct {
	size int
	cut  func() // makes its writing end
}

func (s *shelf) put(size int, cut func()) *shelved {
	a := &shelved{size, cut}
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.answers) > 0 && s.held+size > s.most {
		s.answers[0].cut()
		s.held -= s.answers[0].size
		s.answers = slices.Delete(s.answers, 0, 1)
	}
	s.answers, s.held = append(s.answers, a), s.held+size
	return a
}

// take forgets an answer that its client has taken. It is not cut off any more.
func (s *shelf) take(a *shelved) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.answers, a); i >= 0 {
		s.answers, s.held = slices.Delete(s.answers, i, i+1), s.held-a.size
	}
}

// inTurn makes answers when it is their turn, and gives the turn back before they are
// sent: how fast a client reads holds up nobody.
func inTurn(t *turns, s *shelf, h http.Handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), turnTime)
		defer cancel()
		origin := originFrom(r.Context())
		if !t.take(ctx, origin) {
			if r.Context().Err() == nil {
				answer(w, nil, refuse(http.StatusServiceUnavailable, "too many requests at once", "ask again in a while"))
			}
			return
		}
		made := &made{header: w.Header(), status: http.StatusOK}
		func() {
			defer t.giveBack(origin)
			h.ServeHTTP(made, r)
		}()
		control := http.NewResponseController(w)
		a := s.put(made.body.Len(), func() { _ = control.SetWriteDeadline(time.Now()) })
		defer s.take(a)
		w.Header().Set("Content-Length", strconv.Itoa(made.body.Len()))
		w.WriteHeader(made.status)
		_, _ = w.Write(made.body.Bytes()) // it fails when the client has gone, or is cut off
	}
}

// made is an answer that is made before any of it is sent.
type made struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (m *made) Header() http.Header { return m.header }

// WriteHeader implements http.ResponseWriter.
func (m *made) WriteHeader(status int) { m.status = status }

// Write implements http.ResponseWriter.
func (m *made) Write(p []byte) (int, error) { return m.body.Write(p) }
