package certs

import (
	"crypto/tls"
	"sync/atomic"
)

// Live is what a route's TLS server selects certificates from: a [Store] that can be
// replaced at any time. Handshakes that have selected theirs keep it, the next ones
// meet the new store. It is safe for concurrent use.
type Live struct{ store atomic.Pointer[Store] }

// NewLive makes a Live that answers from s.
func NewLive(s *Store) *Live {
	l := &Live{}
	l.store.Store(s)
	return l
}

// Fixed makes a Live of a route's own certificates and nothing else.
func Fixed(own ...*Certificate) *Live {
	return NewLive(NewStore(NewSet(own), nil, StoreOptions{}))
}

// Select is [Store.Select] of the store of now. It allocates nothing.
func (l *Live) Select(name string, hello *tls.ClientHelloInfo) *tls.Certificate {
	return l.store.Load().Select(name, hello)
}

// Store returns the store of now.
func (l *Live) Store() *Store { return l.store.Load() }

// Swap replaces the store by s.
func (l *Live) Swap(s *Store) { l.store.Store(s) }

// Managed holds certificates that are kept by somebody else than the operator, such as
// those that ACME obtains, for every store that names it in [StoreOptions]: one for a
// process will do, as a certificate is found by its names. Its zero value is empty and
// ready. It is safe for concurrent use.
type Managed struct{ set atomic.Pointer[Set] }

// Swap replaces the certificates, all of them. Handshakes from now on see them.
func (m *Managed) Swap(certs []*Certificate) { m.set.Store(NewSet(certs)) }

// Certificates returns those of now, in the order they were given. The slice is the
// caller's, the certificates are shared.
func (m *Managed) Certificates() []*Certificate { return m.load().Certificates() }

func (m *Managed) load() *Set {
	if m == nil {
		return nil
	}
	return m.set.Load()
}
