package admin

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/snicketlb/snicket/sni"
)

//go:embed openapi.yaml
var description []byte

// SessionQuery says which sessions are asked for; a zero field asks for nothing.
type SessionQuery struct {
	Route, Pool, Backend string
	Client               netip.Prefix
	IdleOver             time.Duration
}

// Question is a hello to explain.
type Question struct {
	Listener string // empty: the first one
	Name     string // as of sni.CheckName; empty: a hello without
	ALPN     []string
	From     netip.Addr // may be invalid
}

// readOnly is what is answered to anybody.
func (s *Server) readOnly(b *bounds) http.Handler {
	mux := http.NewServeMux()
	s.reading(mux, b)
	return guarded(ofThisMachine(timed(mux)))
}

// all is what is answered to those who may connect to the socket.
func (s *Server) all(b *bounds) http.Handler {
	mux := http.NewServeMux()
	s.reading(mux, b)
	// Headers of probes and keys of accounts stand in the configuration.
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/toml")
		_, _ = io.WriteString(w, s.o.Config())
	})
	mux.HandleFunc("GET /v1/config/difference", func(w http.ResponseWriter, r *http.Request) {
		d, err := s.o.Difference(r.Context())
		answer(w, d, err)
	})
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, r *http.Request) {
		done, err := s.o.Reload(r.Context())
		s.changed(r, err, "reload")
		answer(w, done, err)
	})
	mux.HandleFunc("POST /v1/upgrade", s.upgrade)
	mux.HandleFunc("DELETE /v1/sessions/{id}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		err := s.o.Kill(r.Context(), id)
		s.changed(r, err, "kill", slog.String("session", id))
		answer(w, struct{}{}, err)
	})
	mux.HandleFunc("PUT /v1/pools/{pool}/backends/{backend}/state", s.putState)
	mux.HandleFunc("PUT /v1/pools/{pool}/backends/{backend}/weight", s.putWeight)
	mux.HandleFunc("DELETE /v1/pools/{pool}/backends/{backend}/weight", func(w http.ResponseWriter, r *http.Request) {
		s.setWeight(w, r, -1)
	})
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	return guarded(timed(mux))
}

// reading registers what changes nothing, with bounds of its own.
func (s *Server) reading(mux *http.ServeMux, b *bounds) {
	answers, scrapes, kept := newTurns(b.answers), newTurns(b.scrapes), &shelf{most: b.kept}
	list := func(handler http.HandlerFunc) http.HandlerFunc { return inTurn(answers, kept, handler) }
	mux.Handle("GET /metrics", inTurn(scrapes, kept, s.o.Metrics))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { health(w, nil) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { health(w, s.o.NotReady()) })
	mux.HandleFunc("GET /openapi.yaml", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/yaml")
		_, _ = w.Write(description)
	})
	mux.HandleFunc("GET /v1/status", list(func(w http.ResponseWriter, _ *http.Request) { answer(w, s.o.Status(), nil) }))
	mux.HandleFunc("GET /v1/routes", list(func(w http.ResponseWriter, _ *http.Request) { answer(w, s.o.Routes(), nil) }))
	mux.HandleFunc("GET /v1/backends", list(s.getBackends))
	mux.HandleFunc("GET /v1/sessions", list(s.getSessions))
	mux.HandleFunc("GET /v1/certificates", list(func(w http.ResponseWriter, _ *http.Request) { answer(w, s.o.Certificates(), nil) }))
	mux.HandleFunc("GET /v1/refused", list(func(w http.ResponseWriter, _ *http.Request) { answer(w, s.o.Refused(), nil) }))
	mux.HandleFunc("GET /v1/explain", list(s.getExplanation))
	events, follow := list(s.getEvents), stream(newSeats(b.followers), "end one of those that follow", s.followEvents)
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("follow") == "true" {
			follow(w, r)
			return
		}
		events(w, r)
	})
	mux.HandleFunc("GET /v1/live", stream(newSeats(b.watchers), "close a dashboard that nobody looks at", s.getLive))
	s.pages.register(mux)
}

// guarded keeps browsers from taking an answer for anything but what it is, or showing it
// to pages of another origin (Fetch Standard, X-Content-Type-Options and
// Cross-Origin-Resource-Policy).
func guarded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cross-Origin-Resource-Policy", "same-origin")
		header.Set("Cache-Control", "no-store") // it tells of this moment
		h.ServeHTTP(w, r)
	})
}

// timed bounds the time that an answer may take. The time to send the request, which
// the server sets, would end it too soon: it counts for the whole request, and one that
// is over is taken for one whose client has left.
func timed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		limit := answerTime
		if strings.HasPrefix(r.URL.Path, "/debug/pprof/") {
			limit = profileTime
		}
		// They fail for connections that have no deadlines, and ours do.
		control, until := http.NewResponseController(w), time.Now().Add(limit)
		_ = control.SetReadDeadline(until)
		_ = control.SetWriteDeadline(until)
		h.ServeHTTP(w, r)
	})
}

// health answers those who only look at the status.
func health(w http.ResponseWriter, why []string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if len(why) == 0 {
		_, _ = io.WriteString(w, "ok\n")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, strings.Join(why, "\n")+"\n")
}

func (s *Server) getBackends(w http.ResponseWriter, r *http.Request) {
	all := s.o.Backends()
	if pool := r.URL.Query().Get("pool"); pool != "" {
		all = slices.DeleteFunc(all, func(b Backend) bool { return b.Pool != pool })
	}
	answer(w, all, nil)
}

// defaultSessions is how many sessions are answered unless more are asked for.
const (
	defaultSessions = 1000
	mostSessions    = 100_000
)

func (s *Server) getSessions(w http.ResponseWriter, r *http.Request) {
	q, limit, order, err := sessionQuery(r)
	if err != nil {
		answer(w, nil, err)
		return
	}
	found, err := s.o.Sessions(r.Context(), q)
	if err == nil {
		slices.SortStableFunc(found.Sessions, order)
		found.Matched = len(found.Sessions)
		found.Sessions = found.Sessions[:min(limit, len(found.Sessions))]
	}
	answer(w, found, err)
}

// SessionOrders are the words by which sessions can be sorted, the first by default.
func SessionOrders() []string { return []string{"age", "idle", "bytes", "client", "route"} }

func sessionOrder(word string) (func(a, b Session) int, bool) {
	switch word {
	case "", "age":
		return func(a, b Session) int { return cmp.Compare(b.AgeMS, a.AgeMS) }, true
	case "idle":
		return func(a, b Session) int { return cmp.Compare(b.IdleMS, a.IdleMS) }, true
	case "bytes":
		return func(a, b Session) int { return cmp.Compare(b.BytesIn+b.BytesOut, a.BytesIn+a.BytesOut) }, true
	case "client":
		return func(a, b Session) int { return strings.Compare(a.Client, b.Client) }, true
	case "route":
		return func(a, b Session) int { return strings.Compare(a.Route, b.Route) }, true
	}
	return nil, false
}

func sessionQuery(r *http.Request) (q SessionQuery, limit int, order func(a, b Session) int, err error) {
	asked := r.URL.Query()
	q = SessionQuery{Route: asked.Get("route"), Pool: asked.Get("pool"), Backend: asked.Get("backend")}
	limit = defaultSessions
	if text := asked.Get("client"); text != "" {
		if q.Client, err = ParseClient(text); err != nil {
			return q, 0, nil, BadRequest(err.Error(), "write an address or a network, such as 192.0.2.7 or 192.0.2.0/24")
		}
	}
	if text := asked.Get("idle_over"); text != "" {
		if q.IdleOver, err = time.ParseDuration(text); err != nil || q.IdleOver < 0 {
			return q, 0, nil, BadRequest(fmt.Sprintf("idle_over=%q: no duration", text), "write a number and a unit, such as 30s or 5m")
		}
	}
	if text := asked.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > mostSessions {
			return q, 0, nil, BadRequest(fmt.Sprintf("limit=%q", text), fmt.Sprintf("write a number from 1 to %d", mostSessions))
		}
	}
	order, ok := sessionOrder(asked.Get("sort"))
	if !ok {
		return q, 0, nil, BadRequest(fmt.Sprintf("sort=%q", asked.Get("sort")), "write one of "+strings.Join(SessionOrders(), ", "))
	}
	return q, limit, order, nil
}

// ParseClient reads an address, or a network in CIDR form, that clients may come from.
func ParseClient(text string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(text); err == nil {
		ip = ip.Unmap().WithZone("")
		return netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is neither an address nor a network", text)
	}
	return p.Masked(), nil
}

// getEvents answers the events that are kept.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) {
	after, err := eventsAfter(r)
	if err != nil {
		answer(w, nil, err)
		return
	}
	events, _ := s.o.Events.After(after)
	answer(w, events, nil)
}

// eventsAfter reads behind which event those begin that are asked for.
func eventsAfter(r *http.Request) (uint64, error) {
	text := r.URL.Query().Get("after")
	if text == "" {
		return 0, nil
	}
	after, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, BadRequest(fmt.Sprintf("after=%q", text), "write the seq of an event")
	}
	return after, nil
}

func (s *Server) getExplanation(w http.ResponseWriter, r *http.Request) {
	asked := r.URL.Query()
	q := Question{Listener: asked.Get("listener"), Name: strings.ToLower(strings.TrimSuffix(asked.Get("name"), ".")), ALPN: asked["alpn"]}
	if q.Name != "" {
		if err := sni.CheckName(q.Name); err != nil {
			answer(w, nil, BadRequest(fmt.Sprintf("name=%q: %v", q.Name, err), "write a host name, or leave it out for a hello without one"))
			return
		}
	}
	if text := asked.Get("from"); text != "" {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			answer(w, nil, BadRequest(fmt.Sprintf("from=%q: no IP address", text), "write one address, such as 192.0.2.7"))
			return
		}
		q.From = ip.Unmap()
	}
	e, err := s.o.Explain(q)
	answer(w, e, err)
}

// changed logs what an operator has done, or with err what he was refused, and who he is.
func (s *Server) changed(r *http.Request, err error, what string, attrs ...slog.Attr) {
	all := append([]slog.Attr{slog.String("does", what)}, attrs...)
	all = append(all, peerFrom(r.Context()).attrs()...)
	level := slog.LevelInfo
	if err != nil {
		level, all = slog.LevelWarn, append(all, slog.Any("error", err))
	}
	s.o.Log.LogAttrs(r.Context(), level, "operator", all...)
}

// backendOf are the names in a request's path.
func backendOf(r *http.Request) (pool, backend string, attrs []slog.Attr) {
	pool, backend = r.PathValue("pool"), r.PathValue("backend")
	return pool, backend, []slog.Attr{slog.String("pool", pool), slog.String("backend", backend)}
}

func (s *Server) upgrade(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Binary string `json:"binary"`
	}
	if err := decode(r, &body); err != nil {
		answer(w, nil, err)
		return
	}
	if body.Binary != "" && !filepath.IsAbs(body.Binary) {
		answer(w, nil, BadRequest(fmt.Sprintf("binary %q", body.Binary), "write an absolute path"))
		return
	}
	done, err := s.o.Upgrade(r.Context(), body.Binary)
	s.changed(r, err, "upgrade", slog.String("binary", body.Binary))
	answer(w, done, err)
}

func (s *Server) putState(w http.ResponseWriter, r *http.Request) {
	var body struct {
		State string `json:"state"`
	}
	if err := decode(r, &body); err != nil {
		answer(w, nil, err)
		return
	}
	if !slices.Contains([]string{"ready", "drain", "down"}, body.State) {
		answer(w, nil, BadRequest(fmt.Sprintf("state %q", body.State), "write ready, drain or down"))
		return
	}
	pool, backend, attrs := backendOf(r)
	err := s.o.SetState(pool, backend, body.State, peerFrom(r.Context()).name())
	s.changed(r, err, body.State, attrs...)
	s.answerBackend(w, r, err)
}

func (s *Server) putWeight(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Weight *int `json:"weight"`
	}
	if err := decode(r, &body); err != nil {
		answer(w, nil, err)
		return
	}
	const most = 256 // as in the configuration
	if body.Weight == nil || *body.Weight < 0 || *body.Weight > most {
		answer(w, nil, BadRequest("no weight", fmt.Sprintf("write a number from 0 to %d", most)))
		return
	}
	s.setWeight(w, r, *body.Weight)
}

func (s *Server) setWeight(w http.ResponseWriter, r *http.Request, weight int) {
	pool, backend, attrs := backendOf(r)
	word := "default"
	if weight >= 0 {
		word = strconv.Itoa(weight)
	}
	err := s.o.SetWeight(pool, backend, weight, peerFrom(r.Context()).name())
	s.changed(r, err, "weight", append(attrs, slog.String("weight", word))...)
	s.answerBackend(w, r, err)
}

// answerBackend answers a change of a backend with what the backend is now.
func (s *Server) answerBackend(w http.ResponseWriter, r *http.Request, err error) {
	if err != nil {
		answer(w, nil, err)
		return
	}
	pool, backend, _ := backendOf(r)
	for _, b := range s.o.Backends() {
		if b.Pool == pool && b.Name == backend {
			answer(w, b, nil)
			return
		}
	}
	answer(w, nil, NotFound(fmt.Sprintf("no backend %s/%s any more", pool, backend), ""))
}

// decode reads the JSON of a request.
func decode(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return BadRequest("the body is not what is expected: "+err.Error(), "GET /openapi.yaml describes it")
	}
	return nil
}
