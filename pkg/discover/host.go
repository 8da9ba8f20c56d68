package discover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/snicketlb/snicket/pkg/config"
)

// families are the types of records that hold addresses.
func families() [2]uint16 { return [2]uint16{dns.TypeA, dns.TypeAAAA} }

// family is what is known of one name's addresses of one family.
type family struct {
	addrs []netip.Addr
	ttl   time.Duration
	err   error // of the latest question; addrs are then from an earlier one
}

// addresses are both families of one name.
type addresses [2]family

// merge returns now, with what before knows of families that failed since.
func (now addresses) merge(before addresses) addresses {
	for i := range now {
		if now[i].err != nil {
			now[i].addrs = before[i].addrs
		}
	}
	return now
}

// err is why one family, or both, failed.
func (now addresses) err() error {
	a, aaaa := now[0].err, now[1].err
	switch {
	case a == nil:
		return prefixed("AAAA", aaaa)
	case aaaa == nil:
		return prefixed("A", a)
	case a.Error() == aaaa.Error():
		return a
	}
	return fmt.Errorf("%w; %w", prefixed("A", a), prefixed("AAAA", aaaa))
}

func prefixed(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// usable returns the addresses that can be dialled, of both families.
func (now addresses) usable() []netip.Addr {
	var out []netip.Addr
	for _, f := range now {
		for _, a := range f.addrs {
			if a = a.Unmap(); !a.IsUnspecified() && !a.IsMulticast() && (!a.IsLinkLocalUnicast() || a.Is4()) {
				out = append(out, a)
			}
		}
	}
	return out
}

// ttl is the shortest of the families that answered with addresses; ok says that one
// did.
func (now addresses) ttl() (ttl time.Duration, ok bool) {
	for _, f := range now {
		if f.err == nil && len(f.addrs) > 0 && (!ok || f.ttl < ttl) {
			ttl, ok = f.ttl, true
		}
	}
	return ttl, ok
}

// ask asks for the addresses of a full name, both families at the same time.
func ask(ctx context.Context, s *session, name string) addresses {
	var (
		now      addresses
		answered = make(chan int, len(now))
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i, kind := range families() {
		go func() {
			r, err := s.ask(ctx, name, kind)
			now[i] = family{addrs: addrsOf(r.records), ttl: r.ttl, err: err}
			answered <- i
		}()
	}
	first := <-answered
	if f := now[first]; f.err == nil && len(f.addrs) > 0 {
		grace := time.AfterFunc(FamilyGrace, cancel)
		defer grace.Stop()
	}
	second := <-answered
	if errors.Is(now[second].err, context.Canceled) {
		now[second].err = errTimeout
	}
	return now
}

func addrsOf(records []dns.RR) []netip.Addr {
	var out []netip.Addr
	for _, rr := range records {
		if a, ok := addrOf(rr); ok {
			out = append(out, a)
		}
	}
	return out
}

func addrOf(rr dns.RR) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		return netip.AddrFromSlice(rr.A)
	case *dns.AAAA:
		return netip.AddrFromSlice(rr.AAAA)
	}
	return netip.Addr{}, false
}

// backendAt is a backend at an address of its own name.
func backendAt(ip netip.Addr, port uint16) Backend {
	a := config.Address{Kind: config.AddressIP, AddrPort: netip.AddrPortFrom(ip, port), Port: port}
	return Backend{Name: a.String(), Address: a, Weight: 1}
}

// hostLooker asks for the addresses of a host name.
type hostLooker struct {
	host     string
	port     uint16
	resolver resolver
	last     addresses // the last good ones of each family
}

func newHostLooker(host string, port uint16, r resolver) *hostLooker {
	return &hostLooker{host: host, port: port, resolver: r}
}

func (l *hostLooker) look(ctx context.Context) (found, error) {
	if addrs := lookupHosts(l.resolver.paths.hosts, l.host); len(addrs) > 0 {
		return l.found(addresses{{addrs: addrs}}, HostsPoll, 0)
	}
	s, note := l.resolver.session()
	var now addresses
	for _, name := range s.candidates(l.host) {
		now = ask(ctx, s, name)
		if now.err() != nil || len(now.usable()) > 0 {
			break
		}
	}
	if now.err() == nil && len(now.usable()) == 0 {
		return found{note: note}, errors.New(noRecords(now[0].addrs, now[1].addrs))
	}
	var wait time.Duration
	ttl, fresh := now.ttl()
	if fresh {
		wait = holdFor(ttl)
	}
	f, err := l.found(now.merge(l.last), wait, ttl)
	f.note = note
	return f, err
}

// found is what look returns of addresses that count.
func (l *hostLooker) found(now addresses, wait, ttl time.Duration) (found, error) {
	f := found{wait: wait, ttl: ttl, err: now.err()}
	for _, ip := range now.usable() {
		f.backends = append(f.backends, backendAt(ip, l.port))
	}
	if len(f.backends) == 0 {
		return found{}, cmp.Or(f.err, errors.New("no records"))
	}
	l.last = now
	return f, nil
}

// noRecords says in which way an answer was empty.
func noRecords(addrs ...[]netip.Addr) string {
	if unusable := slices.Concat(addrs...); len(unusable) > 0 {
		return fmt.Sprintf("no usable address: %s", unusable[0])
	}
	return "no such name or no addresses"
}

func (l *hostLooker) events() <-chan struct{} { return nil }

func (l *hostLooker) close() {}
