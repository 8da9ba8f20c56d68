package balancer_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/balancer"
)

// choose returns the ID that each session is given, each released at once.
func choose(t testing.TB, p *balancer.Pool, picks []balancer.Pick) []string {
	t.Helper()
	ids := make([]string, len(picks))
	for i, pk := range picks {
		b, err := p.Acquire(pk)
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = b.ID()
		p.Release(b, balancer.Result{})
	}
	return ids
}

func hashPool(t testing.TB, policy balancer.Policy, specs ...balancer.Spec) *balancer.Pool {
	t.Helper()
	p := newPool(t, specs...)
	p.Configure(balancer.Options{Policy: policy})
	return p
}

// moved counts the sessions that were not at one of the given backends and are
// at another one now, and the share of those that were not.
func moved(before, after []string, except ...string) (n int, share float64) {
	others := 0
	for i := range before {
		if slices.Contains(except, before[i]) {
			continue
		}
		others++
		if before[i] != after[i] {
			n++
		}
	}
	return n, float64(n) / float64(others)
}

// These are for good: a balancer of another version, in the same fleet, must
// pick the same.
func TestHashPicksOfAllTimes(t *testing.T) {
	specs := []balancer.Spec{{ID: "10.0.1.5:443", Weight: 1}, {ID: "10.0.1.6:443", Weight: 1}, {ID: "10.0.1.7:443", Weight: 2}, {ID: "[2001:db8::7]:443", Weight: 1}}
	var got []string
	source := hashPool(t, balancer.SourceHash, specs...)
	for _, a := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.7", "203.0.113.99", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"} {
		id := choose(t, source, []balancer.Pick{{Client: netip.MustParseAddr(a)}})[0]
		got = append(got, a+" "+id)
	}
	sni := hashPool(t, balancer.SNIHash, specs...)
	for _, n := range []string{"a.example.com", "b.example.com", "www.example.org", "localhost"} {
		got = append(got, n+" "+choose(t, sni, []balancer.Pick{{Name: n}})[0])
	}
	want := []string{
		"192.0.2.1 10.0.1.7:443",
		"192.0.2.2 10.0.1.6:443",
		"192.0.2.3 [2001:db8::7]:443",
		"198.51.100.7 10.0.1.7:443",
		"203.0.113.99 10.0.1.5:443",
		"2001:db8::1 10.0.1.5:443",
		"2001:db8::2 10.0.1.7:443",
		"2001:db8:0:1::1 10.0.1.7:443",
		"a.example.com 10.0.1.7:443",
		"b.example.com 10.0.1.7:443",
		"www.example.org 10.0.1.6:443",
		"localhost 10.0.1.6:443",
	}
	if !slices.Equal(got, want) {
		t.Errorf("picks are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestHashDoesNotDependOnOrder(t *testing.T) {
	specs := equal(20)
	for i := range specs {
		specs[i].Weight = 1 + i%3
	}
	picks := clients(1, 5000)
	want := choose(t, hashPool(t, balancer.SourceHash, specs...), picks)
	r := rand.New(rand.NewPCG(7, 7))
	for range 5 {
		r.Shuffle(len(specs), func(i, j int) { specs[i], specs[j] = specs[j], specs[i] })
		if n, _ := moved(want, choose(t, hashPool(t, balancer.SourceHash, specs...), picks)); n != 0 {
			t.Errorf("another order moved %d of %d clients", n, len(picks))
		}
	}
	// Nor on the way there.
	p := hashPool(t, balancer.SourceHash, specs[3:]...)
	p.Update(specs[:7])
	p.Update(specs)
	if n, _ := moved(want, choose(t, p, picks)); n != 0 {
		t.Errorf("updates on the way moved %d of %d clients", n, len(picks))
	}
}

func TestHashKeys(t *testing.T) {
	p := hashPool(t, balancer.SourceHash, equal(50)...)
	pick := func(a string) string {
		return choose(t, p, []balancer.Pick{{Client: netip.MustParseAddr(a)}})[0]
	}
	if got, want := pick("::ffff:192.0.2.9"), pick("192.0.2.9"); got != want {
		t.Errorf("an IPv4 address mapped into IPv6 went to %s, want %s", got, want)
	}
	if got, want := pick("fe80::1%eth1"), pick("fe80::1%eth0"); got != want {
		t.Errorf("with another zone the address went to %s, want %s", got, want)
	}
	// The whole IPv6 address counts, each part of it.
	for _, format := range []string{"2001:db8::%x", "2001:db8:0:%x::1", "2001:%x::1"} {
		seen := map[string]bool{}
		for i := 1; i < 200; i++ {
			seen[pick(fmt.Sprintf(format, i))] = true
		}
		if len(seen) < 40 {
			t.Errorf("199 addresses %s went to %d backends of 50, want nearly all", format, len(seen))
		}
	}
	for _, policy := range []balancer.Policy{balancer.SourceHash, balancer.SNIHash} {
		p := hashPool(t, policy, equal(4)...)
		for id, n := range shares(t, p, 400) {
			if n != 100 {
				t.Errorf("%s: without a key %s had %d sessions of 400, want 100", policy, id, n)
			}
		}
	}
}

// A backend that is not ready loses its clients to the others, as evenly as can
// be, and gets the same ones back; no other client moves.
func TestUnreadyBackendMovesOnlyItsClients(t *testing.T) {
	const n = 10
	p := hashPool(t, balancer.SourceHash, equal(n)...)
	picks := clients(3, 50_000)
	before := choose(t, p, picks)
	for _, mark := range []balancer.State{balancer.Down, balancer.Ejected, balancer.Draining} {
		p.Mark("b3", mark, true)
		after := choose(t, p, picks)
		if got, _ := moved(before, after, "b3"); got != 0 {
			t.Errorf("%s: %d clients of other backends moved", mark, got)
		}
		got := map[string]float64{}
		total := 0.0
		for i := range before {
			if before[i] == "b3" {
				got[after[i]]++
				total++
			}
		}
		var counts, want []float64
		for _, b := range p.Backends() {
			if b.ID() != "b3" {
				counts, want = append(counts, got[b.ID()]), append(want, total/(n-1))
			}
		}
		if x, bound := chiSquare(counts, want), chiBound(n-2, 1e-10); x > bound || got["b3"] != 0 {
			t.Errorf("%s: its clients went to %v: chi-square %.1f, bound %.1f", mark, got, x, bound)
		}
		p.Mark("b3", mark, false)
		if got, _ := moved(before, choose(t, p, picks)); got != 0 {
			t.Errorf("%s: %d clients are elsewhere when it is over", mark, got)
		}
	}
	// The last one gets all of them.
	for i := range n - 1 {
		p.Mark(fmt.Sprintf("b%d", i), balancer.Down, true)
	}
	for i, id := range choose(t, p, picks[:1000]) {
		if id != "b9" {
			t.Fatalf("client %d went to %s, want b9, the only one that is ready", i, id)
		}
	}
}

func TestHashSharesByWeight(t *testing.T) {
	specs := []balancer.Spec{{ID: "a", Weight: 1}, {ID: "b", Weight: 2}, {ID: "c", Weight: 7}, {ID: "none"}}
	p := hashPool(t, balancer.SNIHash, specs...)
	count := func() []float64 {
		got := make([]float64, 3)
		for _, id := range choose(t, p, clients(5, 40_000)) {
			if id == "none" {
				t.Fatal("a backend of weight 0 was picked")
			}
			got[id[0]-'a']++
		}
		return got
	}
	bound := chiBound(2, 1e-10)
	if got, x := count(), chiSquare(count(), []float64{4000, 8000, 28000}); x > bound {
		t.Errorf("sessions went to %v: chi-square %.1f, bound %.1f", got, x, bound)
	}
	// What c passes on goes to the next choice, which may be c again, so that it
	// has half its weight in the end, 3.5 of 6.5.
	before := choose(t, p, clients(5, 40_000))
	p.SetShare("c", 50)
	after := choose(t, p, clients(5, 40_000))
	if n, _ := moved(before, after, "c"); n != 0 {
		t.Errorf("%d clients of others moved when c got a smaller share", n)
	}
	got := count()
	if x := chiSquare(got, []float64{40_000 / 6.5, 40_000 * 2 / 6.5, 40_000 * 3.5 / 6.5}); x > bound {
		t.Errorf("at half the share of c, sessions went to %v: chi-square %.1f, bound %.1f", got, x, bound)
	}
	// With none of it, c is as good as down: its place in the table stays.
	p.SetShare("c", 0)
	after = choose(t, p, clients(5, 40_000))
	if n, _ := moved(before, after, "c"); n != 0 || slices.Contains(after, "c") {
		t.Errorf("%d clients of others moved when c got no share, and its own moved: %t", n, !slices.Contains(after, "c"))
	}
	p.SetShare("c", 50)
	// With all at half, they are equals again and nobody moves.
	p.SetShare("a", 50)
	p.SetShare("b", 50)
	if n, _ := moved(before, choose(t, p, clients(5, 40_000))); n != 0 {
		t.Errorf("%d clients are elsewhere when all have half their share", n)
	}
}

// When a backend leaves for good the table is built anew. Its clients must move;
// of the others the fewer move the larger the table is for its backends.
func TestDisruptionWhenOneLeaves(t *testing.T) {
	tests := []struct {
		backends int
		rounds   int
		most     float64 // share of the clients of others that may move
	}{
		{5, 5, 0.01}, {10, 5, 0.01}, {100, 3, 0.01}, {500, 2, 0.015}, {1000, 1, 0.01},
	}
	picks := clients(11, 100_000)
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.backends), func(t *testing.T) {
			specs := equal(tt.backends)
			p := hashPool(t, balancer.SourceHash, specs...)
			before := choose(t, p, picks)
			worst, sum := 0.0, 0.0
			for i := range tt.rounds {
				gone := i * tt.backends / tt.rounds
				p.Update(slices.Concat(specs[:gone], specs[gone+1:]))
				_, share := moved(before, choose(t, p, picks), specs[gone].ID)
				worst, sum = max(worst, share), sum+share
				p.Update(specs)
				if n, _ := moved(before, choose(t, p, picks)); n != 0 {
					t.Errorf("%d clients are elsewhere after %s returned", n, specs[gone].ID)
				}
			}
			t.Logf("one of %d leaves: %.2f %% of the clients of others move, %.2f %% at worst", tt.backends, 100*sum/float64(tt.rounds), 100*worst)
			if worst > tt.most {
				t.Errorf("%.2f %% of the clients of others moved, want at most %.2f %%", 100*worst, 100*tt.most)
			}
		})
	}
}
