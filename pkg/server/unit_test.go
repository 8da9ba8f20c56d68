package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/registry"
)

func TestOfferOf(t *testing.T) {
	for _, tc := range []struct {
		chosen []string
		want   proxy.Offer
	}{
		{nil, proxy.OfferNone},
		{[]string{""}, proxy.OfferNone},
		{[]string{"h2"}, proxy.OfferH2},
		{[]string{"h2", "h2"}, proxy.OfferH2},
		{[]string{"http/1.1"}, proxy.OfferHTTP1},
		{[]string{"h2", "http/1.1", "h2"}, proxy.OfferHTTP1},
		{[]string{"h2", ""}, proxy.OfferNone},
		{[]string{"http/1.1", "imap"}, proxy.OfferNone},
	} {
		if got := offerOf(tc.chosen); got != tc.want {
			t.Errorf("%q: got %v, want %v", tc.chosen, got, tc.want)
		}
	}
}

func TestSessionsFor(t *testing.T) {
	for descriptors, want := range map[int]int{0: 1, descriptorReserve: 1, 1024: 256, 20000: 9744} {
		if got := sessionsFor(descriptors); got != want {
			t.Errorf("%d descriptors: got %d, want %d", descriptors, got, want)
		}
	}
}

func TestDifferenceText(t *testing.T) {
	d := registry.Difference{Added: []string{"a", "b"}, Changed: []string{"c"}, Removed: []string{"d"}}
	if got, want := differenceText(d, "renewed"), "renewed: c; added: a, b; removed: d"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	d = registry.Difference{Added: slices.Repeat([]string{"x"}, 11)}
	if got, want := differenceText(d, "changed"), "added: x, x, x, x, x, x, x, x, x, x, …"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestResolve(t *testing.T) {
	lookup := func(ctx context.Context, host string) ([]netip.Addr, error) {
		switch host {
		case "slow":
			<-ctx.Done()
			return nil, ctx.Err()
		case "empty":
			return nil, nil
		case "good":
			return []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::ffff:127.0.0.1")}, nil
		}
		return nil, &net.DNSError{Err: "server misbehaving", Name: host, Server: "192.0.2.53:53"}
	}
	got := resolve(t.Context(), lookup, []string{"slow", "empty", "good", "bad"}, 50*time.Millisecond)
	for host, want := range map[string]string{
		"slow": "no answer in time", "empty": "no address", "bad": "server misbehaving",
	} {
		if a := got[host]; a.err == nil || a.err.Error() != want || a.addresses != nil {
			t.Errorf("%s: got %v, want %q", host, a, want)
		}
	}
	want := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}
	if a := got["good"]; a.err != nil || !slices.Equal(a.addresses, want) {
		t.Errorf("got %v, want %v", a, want)
	}
}

func TestRunAll(t *testing.T) {
	broken := errors.New("broken")
	waits := func(ctx context.Context) error { <-ctx.Done(); return errors.New("told to end") }
	if got := runAll(t.Context(), waits, func(context.Context) error { return broken }, waits); !errors.Is(got, broken) {
		t.Errorf("got %v, want the error of the first that was out", got)
	}
	ends := func(context.Context) error { return nil }
	quiet := func(ctx context.Context) error { <-ctx.Done(); return nil }
	if got := runAll(t.Context(), ends, quiet); got != nil {
		t.Errorf("got %v, want nil", got)
	}
}

func TestDialAddress(t *testing.T) {
	zoned := netip.MustParseAddrPort("[fe80::1%lo]:443")
	a, err := dialAddress(config.Address{Kind: config.AddressIP, AddrPort: zoned})
	if err != nil || a.AddrPort().Addr().WithZone("") != zoned.Addr().WithZone("") {
		t.Errorf("got %v, %v; want %v", a, err, zoned)
	}
	none := netip.MustParseAddrPort("[fe80::1%nowhere]:443")
	if _, err := dialAddress(config.Address{Kind: config.AddressIP, AddrPort: none}); err == nil {
		t.Error("got an address on an interface that is not there")
	}
	if a, err := dialAddress(config.Address{Kind: config.AddressUnix, Path: "/run/a.sock"}); err != nil || !a.Unix() {
		t.Errorf("got %v, %v; want a Unix socket", a, err)
	}
}

func TestBackendRows(t *testing.T) {
	named := config.Address{Kind: config.AddressName, Host: "app", Port: 80}
	c := &config.Config{Pools: []config.Pool{{Name: "p", Backends: []config.Backend{
		{Name: "b1", Address: named, Weight: 3, Backup: true, MaxConnections: 7},
		{Name: "b2", Address: config.Address{Kind: config.AddressUnix, Path: "/a"}, Weight: 1},
	}}}}
	rows := backendRows(c, map[string]answer{"app": {addresses: []netip.Addr{netip.MustParseAddr("::1"), netip.MustParseAddr("10.0.0.1")}}}, nil)
	var got []string
	for _, r := range rows {
		got = append(got, r.ID+" "+r.Address.String())
	}
	want := []string{"b1@::1 [::1]:80", "b1@10.0.0.1 10.0.0.1:80", "b2 unix:/a"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if r := rows[1]; r.Weight != 3 || r.Tier != 1 || r.MaxConnections != 7 {
		t.Errorf("got %+v, want the settings of b1", r)
	}
	rows = backendRows(c, map[string]answer{"app": {err: errors.New("no such host")}}, nil)
	if got, want := rows[0].Unresolved, "app does not resolve: no such host"; got != want || rows[0].ID != "b1" {
		t.Errorf("got %q as %q, want %q as b1", got, rows[0].ID, want)
	}
}

// TestDrawn bounds the handshakes of a round, and names whom it leaves out.
func TestDrawn(t *testing.T) {
	pool := &config.Pool{Name: "p"}
	hosts := make([]string, hostsMost)
	var all []hostQuestion
	for i := range 100 {
		all = append(all, hostQuestion{pool: pool, backend: &registry.Backend{ID: strconv.Itoa(i)}, hosts: hosts})
	}
	now, others := drawn(slices.Clone(all))
	if want := shakesMost / hostsMost; len(now) != want || len(others) != len(all)-want {
		t.Errorf("got %d asked and %d left out, want %d and the rest", len(now), len(others), want)
	}
	for _, q := range now {
		if others["p/"+q.backend.ID] {
			t.Errorf("%s is asked and left out", q.backend.ID)
		}
	}
	if now, others = drawn(all[:3]); len(now) != 3 || len(others) != 0 {
		t.Errorf("got %d of 3 asked, %d left out", len(now), len(others))
	}
}

// TestHostQuestionsAreBounded asks a backend for some of the hosts of a large table, and
// not for the one that its probe asks for.
func TestHostQuestionsAreBounded(t *testing.T) {
	var hosts []config.Host
	for i := range 100_000 {
		hosts = append(hosts, config.Host{Pattern: strconv.Itoa(i) + ".test"})
	}
	pool := config.Pool{Name: "p", Backends: []config.Backend{{Name: "b"}}}
	pool.Health.Enabled, pool.Health.ServerName = true, "0.test"
	c := &config.Config{
		Routes: []*config.Route{{Name: "r", Pool: "p", Mode: config.Passthrough, Hosts: hosts}}, Pools: []config.Pool{pool},
	}
	r := registry.New()
	r.Declare(c, backendRows(c, nil, nil), time.Now())
	r.Observe("p", "b", registry.Probed{State: health.Up, Certificate: registry.PackCertificate(health.Certificate{Fingerprint: "f"})})
	if got := len(exactHosts(r.View())["p"]); got != hostsMost+1 {
		t.Errorf("got %d hosts looked at, want %d", got, hostsMost+1)
	}
	questions := hostQuestions(r.View())
	if len(questions) != 1 || len(questions[0].hosts) != hostsMost || slices.Contains(questions[0].hosts, "0.test") {
		t.Errorf("got %d questions, %v; want one of %d hosts", len(questions), questions, hostsMost)
	}
}
