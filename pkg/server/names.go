package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/discover"
	"github.com/snicketlb/snicket/pkg/registry"
)

const (
	// namesEvery is how often host names are resolved anew, by default.
	namesEvery = 10 * time.Second
	// namesAtOnce bounds the look-ups at one time.
	namesAtOnce = 16
	// namesWait is how long a look-up may take; namesStart how long a start or a
	// reload waits for them: it goes on without those that are late.
	namesWait  = 5 * time.Second
	namesStart = 2 * time.Second
)

// Lookup resolves a host name, as [net.Resolver.LookupNetIP] does.
type Lookup func(ctx context.Context, host string) ([]netip.Addr, error)

func systemLookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// An answer is what is known of one host name.
type answer struct {
	addresses []netip.Addr // the last good ones, sorted
	err       error        // of the latest look-up
}

// resolve looks hosts up, each within wait.
func resolve(ctx context.Context, lookup Lookup, hosts []string, wait time.Duration) map[string]answer {
	var (
		mu      sync.Mutex
		answers = make(map[string]answer, len(hosts))
		wg      sync.WaitGroup
		turn    = make(chan struct{}, namesAtOnce)
	)
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for _, host := range hosts {
		wg.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			found, err := lookup(ctx, host)
			if err == nil && len(found) == 0 {
				err = errors.New("no address")
			}
			for i := range found {
				found[i] = found[i].Unmap()
			}
			slices.SortFunc(found, netip.Addr.Compare)
			mu.Lock()
			defer mu.Unlock()
			answers[host] = answer{addresses: slices.Compact(found), err: plainError(err)}
		})
	}
	wg.Wait()
	return answers
}

// plainError is err without the name, which stands beside it, and without the
// server asked, which is another at each try.
func plainError(err error) error {
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer in time")
	case errors.As(err, &dns):
		return errors.New(dns.Err)
	}
	return err
}

// members are the backends of a pool as the configuration has them, or its source.
func members(p *config.Pool, found map[string]discovered) []discover.Backend {
	if p.Discover != nil {
		return found[p.Name].backends
	}
	out := make([]discover.Backend, len(p.Backends))
	for i, b := range p.Backends {
		out[i] = discover.Backend{Name: b.Name, Address: b.Address, Weight: b.Weight, MaxConnections: b.MaxConnections}
		if b.Backup {
			out[i].Tier = 1
		}
	}
	return out
}

// hostNames are those among the backends of c and its sources, sorted.
func hostNames(c *config.Config, found map[string]discovered) []string {
	hosts := map[string]bool{}
	for i := range c.Pools {
		for _, b := range members(&c.Pools[i], found) {
			if b.Address.Kind == config.AddressName {
				hosts[b.Address.Host] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(hosts))
}

// learnLocked merges new answers into those known and forgets all names but hosts. A name
// that fails keeps its last good addresses. The caller holds mu.
func (s *Server) learnLocked(hosts []string, answers map[string]answer) {
	known := make(map[string]answer, len(hosts))
	for _, host := range hosts {
		old, was := s.names[host]
		now, asked := answers[host]
		if !asked && !was { // a source has just told of it
			continue
		}
		if !asked {
			now = old
		} else if now.err != nil {
			now.addresses = old.addresses
		}
		known[host] = now
		switch {
		case now.err != nil && (old.err == nil || !was):
			s.log.Warn("name does not resolve", slog.String("name", host), slog.Any("error", now.err),
				slog.Int("addresses_kept", len(now.addresses)))
		case was && now.err == nil && (old.err != nil || !slices.Equal(old.addresses, now.addresses)):
			s.log.Info("name resolves anew", slog.String("name", host), slog.Any("addresses", now.addresses))
		}
	}
	s.names = known
}

// backendRows are the backends of c and its sources by the addresses known. One that is
// a host name becomes one for each address, with the ID NAME@IP; while there is none,
// one that says why.
func backendRows(c *config.Config, names map[string]answer, found map[string]discovered) []registry.Backend {
	var rows []registry.Backend
	for i := range c.Pools {
		p := &c.Pools[i]
		for _, b := range members(p, found) {
			row := registry.Backend{
				Pool: p.Name, ID: b.Name, Address: b.Address,
				Weight: b.Weight, Tier: b.Tier, MaxConnections: b.MaxConnections,
			}
			if b.Address.Kind != config.AddressName {
				rows = append(rows, row)
				continue
			}
			known, asked := names[b.Address.Host]
			switch {
			case !asked: // a source has just told of it
				row.Unresolved = b.Address.Host + " is being resolved"
				rows = append(rows, row)
			case len(known.addresses) == 0:
				row.Unresolved = fmt.Sprintf("%s does not resolve: %v", b.Address.Host, known.err)
				rows = append(rows, row)
			}
			for _, ip := range known.addresses {
				row.ID = b.Name + "@" + ip.String()
				row.Address = config.Address{Kind: config.AddressIP, AddrPort: netip.AddrPortFrom(ip, b.Address.Port), Port: b.Address.Port}
				rows = append(rows, row)
			}
		}
	}
	return rows
}

// resolveNames keeps the backends that are host names up to date until ctx is done.
func (s *Server) resolveNames(ctx context.Context) error {
	every := time.NewTicker(s.o.ResolveEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			s.resolveOnce(ctx)
		case <-s.unnamed:
			s.resolveOnce(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Server) resolveOnce(ctx context.Context) {
	s.mu.Lock()
	hosts := hostNames(s.plan.config, s.found)
	s.mu.Unlock()
	if len(hosts) == 0 {
		return
	}
	answers := resolve(ctx, s.o.Lookup, hosts, namesWait)
	if ctx.Err() != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.learnLocked(hostNames(s.plan.config, s.found), answers) // a reload may have come between
	s.registry.SetBackends(backendRows(s.plan.config, s.names, s.found), time.Now())
}
