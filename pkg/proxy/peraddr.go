package proxy

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

const (
	addrShards = 64
	// idleAddrs bounds the addresses that a shard remembers for their rate
	// alone; beyond it the one idle for longest is forgotten.
	idleAddrs = 4096
)

// perAddr counts sessions, unfinished hellos and the rate of connections by
// client address; an IPv6 client is its /64. It is shared by all loops.
type perAddr struct {
	seed   maphash.Seed
	shards [addrShards]addrShard
}

type addrShard struct {
	mu      sync.Mutex // guards the fields below
	entries map[netip.Addr]*addrEntry
	idle    addrEntry // sentinel of the ring of entries without a session, oldest first
	idles   int
}

type addrEntry struct {
	key        netip.Addr
	conns      int
	hellos     int
	due        time.Duration // theoretical arrival time of the next connection (GCRA)
	next, prev *addrEntry    // in the idle ring
}

func newPerAddr() *perAddr {
	t := &perAddr{seed: maphash.MakeSeed()}
	for i := range t.shards {
		s := &t.shards[i]
		s.entries = map[netip.Addr]*addrEntry{}
		s.idle.next, s.idle.prev = &s.idle, &s.idle
	}
	return t
}

// addrKey is the address that a client counts by.
func addrKey(a netip.Addr) netip.Addr {
	if a.Is6() && !a.Is4In6() {
		p, _ := a.WithZone("").Prefix(64)
		return p.Addr()
	}
	return a.Unmap()
}

func (t *perAddr) shard(key netip.Addr) *addrShard {
	return &t.shards[maphash.Comparable(t.seed, key)%addrShards]
}

// admit counts one more session for key, or says which limit forbids it.
func (t *perAddr) admit(key netip.Addr, l *Limits, now time.Duration) Outcome {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.take(key)
	out := e.admit(l, now)
	if out != OK {
		s.settle(e, now)
	}
	return out
}

func (e *addrEntry) admit(l *Limits, now time.Duration) Outcome {
	if l.PerIPRate.N > 0 {
		// The bucket holds one second's worth, one connection at least.
		each := l.PerIPRate.Per / time.Duration(l.PerIPRate.N)
		due := max(e.due, now)
		if due+each-now > max(time.Second, each) {
			return RateLimited
		}
		e.due = due + each
	}
	if l.PerIPConnections > 0 && e.conns >= l.PerIPConnections {
		return OverLimit
	}
	e.conns++
	return OK
}

// rejoin counts sessions and unfinished hellos that were counted for key by another
// process, whatever the limits.
func (t *perAddr) rejoin(key netip.Addr, conns, hellos int) {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.take(key)
	e.conns += conns
	e.hellos += hellos
}

// rates tells of the addresses that are not allowed all that their rate allows at most.
func (t *perAddr) rates(now time.Duration, clock func(time.Duration) int64) []AddrRate {
	var all []AddrRate
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		for key, e := range s.entries {
			if e.due > now {
				all = append(all, AddrRate{key, clock(e.due)})
			}
		}
		s.mu.Unlock()
	}
	return all
}

// setRate has key wait as another process would have it.
func (t *perAddr) setRate(key netip.Addr, due, now time.Duration) {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.take(key)
	e.due = max(e.due, due)
	s.settle(e, now)
}

// leave takes one session off key's count.
func (t *perAddr) leave(key netip.Addr, now time.Duration) {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	e.conns--
	s.settle(e, now)
}

// hello counts one more unfinished hello for key, and reports whether its limit
// allows that.
func (t *perAddr) hello(key netip.Addr, limit int, now time.Duration) bool {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.take(key)
	if e.hellos >= limit {
		s.settle(e, now)
		return false
	}
	e.hellos++
	return true
}

// helloDone takes one unfinished hello off key's count.
func (t *perAddr) helloDone(key netip.Addr, now time.Duration) {
	s := t.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	e.hellos--
	s.settle(e, now)
}

// take is the entry of key, which is not idle until it is settled.
func (s *addrShard) take(key netip.Addr) *addrEntry {
	e := s.entries[key]
	if e == nil {
		e = &addrEntry{key: key}
		s.entries[key] = e
	} else {
		s.busy(e)
	}
	return e
}

// settle forgets an entry that says nothing any more, or parks it as idle while
// its rate does.
func (s *addrShard) settle(e *addrEntry, now time.Duration) {
	if e.conns > 0 || e.hellos > 0 {
		return
	}
	if e.due <= now {
		delete(s.entries, e.key)
		return
	}
	e.prev, e.next = s.idle.prev, &s.idle
	e.prev.next, s.idle.prev = e, e
	s.idles++
	// The oldest go: those whose rate has recovered, and any beyond the bound.
	for o := s.idle.next; o != &s.idle && (o.due <= now || s.idles > idleAddrs); o = s.idle.next {
		s.busy(o)
		delete(s.entries, o.key)
	}
}

// busy takes an entry out of the idle ring, if it is in.
func (s *addrShard) busy(e *addrEntry) {
	if e.next == nil {
		return
	}
	e.prev.next, e.next.prev = e.next, e.prev
	e.next, e.prev = nil, nil
	s.idles--
}
