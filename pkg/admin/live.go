package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	// frameEvery is how often there is a frame; at an event there is one sooner, behind
	// which is what comes together with it.
	frameEvery = time.Second
	frameSoon  = 100 * time.Millisecond
	// frameSlack is how much sooner than frameEvery a watcher may come for its next.
	frameSlack = frameEvery / 10

	frameRefusals = 50  // shown of the latest
	frameEvents   = 500 // of before, in a whole frame
)

// Frame is what those who watch are shown at a time: all of it, or what is not as in the
// frame before.
type Frame struct {
	Seq   uint64    `json:"seq"`
	Whole bool      `json:"whole"` // all of it
	Time  time.Time `json:"time"`
	// Status has no Pools: they follow.
	Status   Status  `json:"status"`
	Pools    Changed `json:"pools"`    // by name
	Routes   Changed `json:"routes"`   // by name
	Backends Changed `json:"backends"` // by pool/name
	// Certificates and Refused, the latest first, are nil where they are as before.
	Certificates []Certificate `json:"certificates"`
	Refused      []Refusal     `json:"refused"`
	Events       []Event       `json:"events"` // those since
}

// Changed are things of one kind that are new or otherwise than before, and the keys of
// those that are no more.
type Changed struct {
	Set  []json.RawMessage `json:"set"`
	Gone []string          `json:"gone"`
}

// live makes frames for all who watch, and none while nobody does.
type live struct {
	o *Options

	mu       sync.Mutex // guards the fields below
	watchers int
	now      Frame // the latest
	made     time.Time
	event    uint64 // Seq of the latest event in it
	refused  string // ID of the latest refusal in it
	shown    []byte // the certificates in it
	text     []byte // it
	whole    []byte // the same with all that is as before; nil until it is asked for
	pools    things
	routes   things
	backends things
}

// enter counts one that watches; it must leave.
func (l *live) enter() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers++
}

func (l *live) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.watchers--; l.watchers > 0 {
		return
	}
	// What was shown is nothing to compare with for those who come later.
	l.now, l.made, l.event, l.refused, l.shown = Frame{Seq: l.now.Seq}, time.Time{}, 0, "", nil
	l.text, l.whole, l.pools, l.routes, l.backends = nil, nil, nil, nil, nil
}

// next returns the frame for one that has seen the frame seq, 0 for none, with its
// number, and a channel that is closed once there is reason for another. The text is
// shared, and nil if there is no other frame yet.
func (l *live) next(seq uint64) (text []byte, _ uint64, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	events, changed := l.o.Events.After(l.event)
	age := time.Since(l.made)
	if l.made.IsZero() || age >= frameEvery-frameSlack || len(events) > 0 && age >= frameSoon {
		l.advance(events)
	}
	switch {
	case seq == l.now.Seq:
		return nil, seq, changed
	case seq != 0 && seq == l.now.Seq-1:
		return l.text, l.now.Seq, changed
	}
	if l.whole == nil {
		l.whole = l.encodeWhole()
	}
	return l.whole, l.now.Seq, changed
}

// advance makes the next frame. The caller holds mu.
func (l *live) advance(events []Event) {
	l.made = time.Now()
	status := l.o.Status()
	l.now = Frame{
		Seq: l.now.Seq + 1, Time: l.made, Status: status, Events: events,
		Pools:    update(&l.pools, status.Pools, func(p *Pool) string { return p.Name }),
		Routes:   update(&l.routes, l.o.Routes(), func(r *Route) string { return r.Name }),
		Backends: update(&l.backends, l.o.Backends(), func(b *Backend) string { return b.Pool + "/" + b.Name }),
	}
	l.now.Status.Pools = []Pool{}
	if n := len(events); n > 0 {
		l.event = events[n-1].Seq
	}
	refused := l.o.Refused()
	refused = refused[:min(frameRefusals, len(refused))]
	if len(refused) > 0 && refused[0].ID != l.refused {
		l.now.Refused, l.refused = refused, refused[0].ID
	}
	certificates := l.o.Certificates()
	if text := encode(certificates); !bytes.Equal(text, l.shown) {
		l.now.Certificates, l.shown = certificates, text
	}
	l.text, l.whole = encode(&l.now), nil
}

// encodeWhole is the latest frame with what is as before. The caller holds mu.
func (l *live) encodeWhole() []byte {
	all := l.now
	all.Whole = true
	all.Pools, all.Routes, all.Backends = l.pools.all(), l.routes.all(), l.backends.all()
	refused := l.o.Refused()
	all.Refused, all.Certificates = refused[:min(frameRefusals, len(refused))], l.o.Certificates()
	events, _ := l.o.Events.After(l.event - min(l.event, frameEvents))
	all.Events = slices.DeleteFunc(events, func(e Event) bool { return e.Seq > l.event })
	return encode(&all)
}

// things are those of one kind in the latest frame, by key.
type things map[string]json.RawMessage

// update makes list what there is, and returns how that differs from before.
func update[T any](t *things, list []T, key func(*T) string) Changed {
	was := *t
	*t = make(things, len(list))
	c := Changed{Set: []json.RawMessage{}, Gone: []string{}}
	for i := range list {
		k, text := key(&list[i]), encode(&list[i])
		(*t)[k] = text
		if !bytes.Equal(was[k], text) {
			c.Set = append(c.Set, text)
		}
	}
	for k := range was {
		if _, still := (*t)[k]; !still {
			c.Gone = append(c.Gone, k)
		}
	}
	return c
}

func (t things) all() Changed {
	c := Changed{Set: []json.RawMessage{}, Gone: []string{}}
	for _, k := range slices.Sorted(maps.Keys(t)) {
		c.Set = append(c.Set, t[k])
	}
	return c
}

// encode is v as JSON in one line. None of the types of this package is without one.
func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return plain(text)
}

// getLive answers frames as server-sent events (HTML Living Standard §9.2) until the
// client leaves or, with frames=N, has got N. A client that does not take one within
// eventTime is cut off; what comes in the meantime is not kept for it.
func (s *Server) getLive(w http.ResponseWriter, r *http.Request) {
	left := -1
	if text := r.URL.Query().Get("frames"); text != "" {
		var err error
		if left, err = strconv.Atoi(text); err != nil || left < 1 {
			answer(w, nil, BadRequest(fmt.Sprintf("frames=%q", text), "write how many, or leave it out for no end"))
			return
		}
	}
	s.live.enter()
	defer s.live.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	control := http.NewResponseController(w)
	tick := time.NewTicker(frameEvery)
	defer tick.Stop()
	for seq := uint64(0); ; {
		text, now, changed := s.live.next(seq)
		if text != nil {
			if left--; writeEvent(w, control, text) != nil || left == 0 {
				return
			}
			seq = now
		}
		select {
		case <-tick.C:
		case <-changed:
			select {
			case <-time.After(frameSoon):
			case <-r.Context().Done():
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}
