package server

import (
	"sync"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// keptRefusals is how many refused sessions are kept for those who ask.
const keptRefusals = 256

// refusals keeps the latest sessions that got no backend.
type refusals struct {
	mu   sync.Mutex // guards the fields below
	ring [keptRefusals]proxy.Record
	n    uint64 // ever kept
}

// refused reports whether the outcome is one of which a client would complain.
func refused(o proxy.Outcome) bool {
	switch o {
	case proxy.NoRoute, proxy.Rejected, proxy.Denied, proxy.NotTLS, proxy.BadHello, proxy.HelloTimeout, proxy.HelloTooLarge,
		proxy.BadProxyHeader, proxy.RateLimited, proxy.OverLimit, proxy.HandshakeTimeout, proxy.ClientTLSFailed,
		proxy.BackendTLSFailed, proxy.NoCertificate, proxy.NoBackend, proxy.DialFailed, proxy.QueueTimeout, proxy.Internal:
		return true
	case proxy.OK, proxy.NoHello, proxy.ACME, proxy.ClientReset, proxy.BackendReset, proxy.IdleTimeout, proxy.FinTimeout,
		proxy.Drained, proxy.Killed, proxy.Moved:
	}
	return false
}

// add keeps r, if it was refused. It is for the one goroutine that writes records.
func (s *refusals) add(r *proxy.Record) {
	if !refused(r.Outcome) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring[s.n%keptRefusals] = *r
	s.n++
}

// views are those kept, the latest first.
func (s *refusals) views() []admin.Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]admin.Refusal, 0, min(s.n, keptRefusals))
	for i := range min(s.n, keptRefusals) {
		r := &s.ring[(s.n-1-i)%keptRefusals]
		v := admin.Refusal{
			Time: r.Time, ID: r.ID.String(), Listener: r.Listener, SNI: r.SNI, ALPN: r.ALPN, JA4: ja4Text(r.JA4),
			Route: r.Route, Outcome: r.Outcome.String(), Error: r.Error,
		}
		if r.Client.IsValid() {
			v.Client = r.Client.String()
		}
		out = append(out, v)
	}
	return out
}
