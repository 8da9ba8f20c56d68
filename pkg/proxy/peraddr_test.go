package proxy

import (
	"net/netip"
	"testing"
	"time"
)

func TestPerAddrRate(t *testing.T) {
	key := addrKey(netip.MustParseAddr("192.0.2.1"))
	tests := []struct {
		name  string
		rate  Rate
		burst int           // admitted at one instant
		each  time.Duration // after which one more is
	}{
		{name: "20/s", rate: Rate{20, time.Second}, burst: 20, each: 50 * time.Millisecond},
		{name: "600/m", rate: Rate{600, time.Minute}, burst: 10, each: 100 * time.Millisecond},
		{name: "1/m", rate: Rate{1, time.Minute}, burst: 1, each: time.Minute},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			p := newPerAddr()
			l := &Limits{PerIPRate: tc.rate}
			now := time.Hour
			take := func() Outcome {
				out := p.admit(key, l, now)
				if out == OK {
					p.leave(key, now)
				}
				return out
			}
			for i := range tc.burst {
				if got := take(); got != OK {
					t.Fatalf("connection %d of the burst: %v", i+1, got)
				}
			}
			if got := take(); got != RateLimited {
				t.Errorf("beyond the burst: %v, want rate-limited", got)
			}
			now += tc.each - 1
			if got := take(); got != RateLimited {
				t.Errorf("a little early: %v, want rate-limited", got)
			}
			now++
			if got := take(); got != OK {
				t.Errorf("in time: %v, want ok", got)
			}
		})
	}
}

// TestPerAddrForgets holds the memory: without a rate an address is forgotten
// with its last session, with one it is remembered within the bound.
func TestPerAddrForgets(t *testing.T) {
	entries := func(p *perAddr) (n, idle int) {
		for i := range p.shards {
			n += len(p.shards[i].entries)
			idle += p.shards[i].idles
		}
		return n, idle
	}
	visit := func(p *perAddr, l *Limits, i int, now time.Duration) {
		key := addrKey(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		if out := p.admit(key, l, now); out != OK {
			t.Fatalf("address %d: %v", i, out)
		}
		if !p.hello(key, 1, now) {
			t.Fatalf("address %d: no hello", i)
		}
		p.helloDone(key, now)
		p.leave(key, now)
	}
	p := newPerAddr()
	for i := range 1000 {
		visit(p, &Limits{PerIPConnections: 1}, i, 0)
	}
	if n, idle := entries(p); n != 0 || idle != 0 {
		t.Errorf("%d entries, %d idle, want none", n, idle)
	}
	const bound = addrShards * idleAddrs
	rated := &Limits{PerIPRate: Rate{1, time.Hour}}
	for i := range bound + 50_000 {
		visit(p, rated, i, 0)
	}
	if n, idle := entries(p); n > bound || n != idle {
		t.Errorf("%d entries, %d idle, want at most %d, all idle", n, idle, bound)
	}
	for i := range 5000 { // two hours later all have recovered; each shard sees some of these
		visit(p, rated, 1<<23+i, 2*time.Hour)
	}
	if n, idle := entries(p); n != 5000 || idle != 5000 {
		t.Errorf("%d entries, %d idle, want the last 5000", n, idle)
	}
}

func TestAddrKey(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.1":        "192.0.2.1",
		"::ffff:192.0.2.1": "192.0.2.1",
		"2001:db8:1:2:3::": "2001:db8:1:2::",
		"fe80::1%lo":       "fe80::",
	} {
		if got := addrKey(netip.MustParseAddr(in)); got != netip.MustParseAddr(want) {
			t.Errorf("%s counts as %v, want %s", in, got, want)
		}
	}
}
