package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/snicketlb/snicket/balancer"
	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/registry"
)

// status is how the process stands, for operators.
func (s *Server) status() admin.Status {
	view, counters := s.registry.View(), s.proxy.Counters()
	meta := view.Meta()
	out := admin.Status{
		Version: s.o.Version, PID: os.Getpid(), State: s.phase.get().state(), NotReady: append([]string{}, s.notReady()...),
		Started: s.started, Config: s.path, Generation: meta.Generation, Loaded: meta.At,
		Loops: s.loops, Sessions: s.proxy.Active(), Hellos: int(counters.Hellos), Paused: counters.Paused > 0,
		Routes: view.Meta().Routes, Listeners: []admin.Listener{}, Pools: []admin.Pool{},
		Faults: s.faultViews(),
	}
	out.Ready = len(out.NotReady) == 0
	if path, err := filepath.Abs(s.path); err == nil {
		out.Config = path
	}
	if failure := s.reloads.failure.Load(); failure != nil {
		out.ReloadFailed = *failure
	}
	for _, b := range s.proxy.Bound() {
		out.Listeners = append(out.Listeners, admin.Listener{Name: b.Listener, Address: b.Address, Sessions: int(counters.Active[b.Listener])})
	}
	s.mu.Lock()
	inForce := s.plan
	s.mu.Unlock()
	shared := inForce.shared
	out.MaxConnections, out.MaxConnectionsDeclared = inForce.state.Limits.MaxConnections, inForce.config.Limits.MaxConnections
	for _, declared := range view.Pools() {
		if p := shared.pools[declared.Name]; p != nil {
			out.Pools = append(out.Pools, poolView(declared.Name, p.balancer))
		}
	}
	return out
}

// faultViews are what is wrong with files: of thousands, as when a directory is gone, the
// first ones say it.
func (s *Server) faultViews() []admin.Fault {
	const most = 100
	faults := s.Faults()
	out := []admin.Fault{}
	for _, f := range faults[:min(most, len(faults))] {
		out = append(out, admin.Fault(f))
	}
	return out
}

func poolView(name string, b *balancer.Pool) admin.Pool {
	p := admin.Pool{Name: name, Queue: b.QueueLength(), Panic: b.Panicking()}
	for _, backend := range b.Backends() {
		p.Backends++
		p.Sessions += backend.Active()
		switch backend.State() {
		case balancer.Ready:
			p.Ready++
		case balancer.Down:
			p.Down++
		case balancer.Draining:
			p.Draining++
		case balancer.Ejected:
			p.Ejected++
		}
	}
	return p
}

// routeViews are all routes, by name.
func (s *Server) routeViews() []admin.Route {
	s.mu.Lock()
	shared := s.plan.shared
	s.mu.Unlock()
	out := []admin.Route{}
	for r := range s.registry.View().Routes() {
		v := admin.Route{Name: r.Name, Hosts: []string{}, Listeners: r.Listeners, Mode: string(r.Mode), Pool: r.Pool}
		for _, h := range r.Hosts {
			v.Hosts = append(v.Hosts, h.Pattern)
		}
		if common := shared.routes[r.Name]; common != nil {
			v.Sessions = int(common.active.Load())
			if common.counts != nil {
				totals := common.counts.Totals()
				v.BytesIn, v.BytesOut, v.Ended = totals.In, totals.Out, endedByWord(totals.Ended)
			}
		}
		out = append(out, v)
	}
	return out
}

func endedByWord(counts [proxy.Outcomes]uint64) map[string]uint64 {
	ended := map[string]uint64{}
	for o, n := range counts {
		if n > 0 {
			ended[proxy.Outcome(o).String()] = n
		}
	}
	return ended
}

// backendViews are all backends, by pool and name.
func (s *Server) backendViews() []admin.Backend {
	out := []admin.Backend{}
	view := s.registry.View()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pool := range view.Pools() {
		a := s.applied[pool.Name]
		if a == nil {
			continue
		}
		handles := map[string]*balancer.Backend{}
		for _, b := range a.balancer.Backends() {
			handles[b.ID()] = b
		}
		for _, row := range view.Backends(pool.Name) {
			if b := handles[row.ID]; b != nil {
				status := view.Status(pool.Name, row.ID)
				out = append(out, backendView(row, b, &status, a.broken[row.ID]))
			}
		}
	}
	return out
}

func backendView(row *registry.Backend, b *balancer.Backend, status *registry.Status, broken string) admin.Backend {
	v := admin.Backend{
		Pool: row.Pool, Name: row.ID, State: b.State().String(), Probe: status.State.String(),
		Weight: b.Weight(), WeightDeclared: row.Weight, Share: b.Share(), Tier: row.Tier,
		Sessions: b.Active(), MaxConnections: row.MaxConnections, Total: b.Total(), DialFailures: b.DialFailures(), Failures: b.Failures(),
		LatencyMS: float64(b.Latency().Microseconds()) / 1000,
	}
	if row.Unresolved == "" {
		v.Address = row.Address.String()
	}
	var since time.Time
	switch b.State() {
	case balancer.Down:
		v.Why, since = cmp.Or(broken, status.Why), status.Since
		if status.Wished.State == registry.WishDown {
			v.Why, since = wishedBy(status.Wished.By), status.Wished.Since
		}
	case balancer.Draining:
		v.Why = whyDrained(status)
		if status.Wished.State == registry.WishDrain {
			since = status.Wished.Since
		}
	case balancer.Ejected:
		v.Why = fmt.Sprintf("%s; until %s", status.Ejected.Reason, status.Ejected.Until.UTC().Format(time.RFC3339))
	case balancer.Ready:
		if status.State == health.Up {
			since = status.Since
		}
	}
	if !since.IsZero() {
		v.Since = &since
	}
	if w := &status.Wished; w.State != registry.NoWish {
		v.Wish = &admin.Wish{Value: string(w.State), Since: w.Since, By: w.By}
	}
	if w := &status.Wished; w.Weighs {
		v.WeightWish = &admin.Wish{Value: strconv.Itoa(w.Weight), Since: w.WeightSince, By: w.WeightBy}
	}
	return v
}

// sessionViews are the sessions of now that q asks for.
func (s *Server) sessionViews(ctx context.Context, q admin.SessionQuery) (admin.Sessions, error) {
	found, err := s.proxy.Sessions(ctx, proxy.SessionFilter{
		Route: q.Route, Pool: q.Pool, Backend: q.Backend, Client: q.Client, IdleOver: q.IdleOver,
	})
	out := admin.Sessions{Sessions: make([]admin.Session, len(found)), Matched: len(found)}
	for i := range found {
		out.Sessions[i] = sessionView(&found[i])
	}
	return out, err
}

func sessionView(v *proxy.SessionView) admin.Session {
	out := admin.Session{
		ID: v.ID.String(), Listener: v.Listener, SNI: v.SNI, ALPN: v.ALPN, JA4: ja4Text(v.JA4),
		Route: v.Route, Pool: v.Pool, Backend: v.Backend, Phase: v.Phase.String(),
		AgeMS: v.Age.Milliseconds(), IdleMS: v.Idle.Milliseconds(), BytesIn: v.BytesIn, BytesOut: v.BytesOut, Retries: v.Retries,
	}
	if v.Routed {
		out.Mode = v.Mode.String()
	}
	if v.Client.IsValid() {
		out.Client = v.Client.String()
	}
	if v.Peer.IsValid() {
		out.Peer = v.Peer.String()
	}
	if v.TLSVersion != 0 {
		out.TLSVersion = tls.VersionName(v.TLSVersion)
	}
	return out
}

func ja4Text(ja4 [36]byte) string {
	if ja4 == ([36]byte{}) {
		return ""
	}
	return string(ja4[:])
}

// certificateViews are the certificates to be shown to clients.
func (s *Server) certificateViews() []admin.Certificate {
	out := []admin.Certificate{}
	for _, v := range s.Certificates() {
		out = append(out, admin.Certificate{
			Names: append([]string{}, v.Names...), Issuer: v.Issuer, Serial: v.Serial, Key: v.Key, SHA256: hex.EncodeToString(v.SHA256[:]),
			NotBefore: v.NotBefore, NotAfter: v.NotAfter, File: v.File, ACME: v.ACME,
			Routes: append([]string{}, v.Routes...), Superseded: v.Superseded,
		})
	}
	return out
}

// killSession ends the session of that id.
func (s *Server) killSession(ctx context.Context, text string) error {
	id, err := strconv.ParseUint(text, 16, 64)
	if err != nil || len(text) != 16 {
		return admin.BadRequest(fmt.Sprintf("%q is no session", text), "write the 16 digits of its id, as snicket sessions and the access log have it")
	}
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.servesStill(); err != nil {
		return err
	}
	killed, err := s.proxy.Kill(ctx, proxy.SessionID(id))
	if err == nil && !killed {
		return admin.NotFound("no session "+text, "it has ended, or was another process's; snicket sessions lists those there are")
	}
	return err
}

// explainRunning is Explain by the table in force.
func (s *Server) explainRunning(q admin.Question) (admin.Explanation, error) {
	var names []string
	s.mu.Lock()
	state := &s.plan.state
	for _, l := range state.Listeners {
		names = append(names, l.Name)
	}
	routes := state.Routes
	s.mu.Unlock()
	e, err := explain(s.proxy.Table(), names, routes, Query{Listener: q.Listener, Name: q.Name, ALPN: q.ALPN, From: q.From})
	if err != nil {
		return admin.Explanation{}, admin.NotFound(err.Error(), "there is "+listed(names))
	}
	return e.View(), nil
}

// View is the explanation in the form of the admin API.
func (e *Explained) View() admin.Explanation {
	out := admin.Explanation{
		Listener: e.Listener, Pattern: e.Pattern, Outcome: e.Outcome.String(),
		Verdicts: []admin.Verdict{}, Looked: append([]string{}, e.Looked...), Others: []admin.Other{},
	}
	if e.Outcome == proxy.OK {
		out.Route, out.Mode, out.Pool = e.Route.Name, e.Route.Mode.String(), e.Route.Pool.Name
	}
	for _, v := range e.Verdicts {
		out.Verdicts = append(out.Verdicts, admin.Verdict{Route: v.Route.Name, Won: v.Won, Why: v.Why})
	}
	for _, o := range e.Others {
		out.Others = append(out.Others, admin.Other{Listener: o.Listener, Pattern: o.Pattern})
	}
	return out
}
