package health_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snicketlb/snicket/health"
)

func TestCertificateOfAnObservation(t *testing.T) {
	leaf := &x509.Certificate{
		Raw: []byte("leaf"), NotAfter: time.Unix(2, 0), NotBefore: time.Unix(1, 0),
		DNSNames: []string{"A.test.", "*.b.test"}, IPAddresses: []net.IP{net.IPv4(192, 0, 2, 1)},
		Subject: pkix.Name{CommonName: "common.test"}, Issuer: pkix.Name{CommonName: "CA", Organization: []string{"Org"}},
	}
	c, ok := health.Observation{Certificates: []*x509.Certificate{leaf}}.Certificate()
	if want := []string{"a.test", "*.b.test", "192.0.2.1"}; !ok || !slices.Equal(c.Names, want) {
		t.Errorf("names %q, %v; want %q", c.Names, ok, want)
	}
	if c.Issuer != "CN=CA,O=Org" || !c.NotAfter.Equal(leaf.NotAfter) || !c.NotBefore.Equal(leaf.NotBefore) {
		t.Errorf("got %+v", c)
	}
	// echo -n leaf | sha256sum
	if want := "9f91161f43433e49a6de6db680d79f60159f2e4ac9172621a12846428158440b"; c.Fingerprint != want {
		t.Errorf("fingerprint %q, want %q", c.Fingerprint, want)
	}
	longer, _ := health.Observation{Certificates: []*x509.Certificate{leaf, {Raw: []byte("CA")}}}.Certificate()
	if longer.Fingerprint == c.Fingerprint {
		t.Error("a longer chain has the same fingerprint")
	}
	if _, ok := (health.Observation{}).Certificate(); ok {
		t.Error("nothing seen, and a certificate")
	}
}

func TestCertificateCovers(t *testing.T) {
	c := health.Certificate{Names: []string{"a.test", "*.b.test", "192.0.2.1"}}
	for host, want := range map[string]bool{
		"a.test": true, "A.TEST.": true, "x.a.test": false, "b.test": false, "x.b.test": true, "x.y.b.test": false,
		"*.b.test": true, "**.b.test": true, "*.a.test": false, "**.a.test": false, "*.x.b.test": false,
		"*": true, "-": true, "192.0.2.1": true, "est": false, "": false,
	} {
		if got := c.Covers(host); got != want {
			t.Errorf("%q: got %v, want %v", host, got, want)
		}
	}
}

func TestCertificateWarnings(t *testing.T) {
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	const notice = 14 * day
	valid := func(left time.Duration) health.Certificate {
		return health.Certificate{NotBefore: now.Add(-day), NotAfter: now.Add(left), Names: []string{"a.test"}}
	}
	early := valid(90 * day)
	early.NotBefore = now.Add(time.Hour)
	for _, tt := range []struct {
		name     string
		c        health.Certificate
		hosts    []string
		wantDays int
		want     []string
	}{
		{"good", valid(90 * day), []string{"a.test"}, 90, nil},
		{"just enough", valid(notice), nil, 14, nil},
		{"soon over", valid(notice - time.Second), nil, 13, []string{"certificate expires in 13 days"}},
		{"today", valid(2 * time.Hour), nil, 0, []string{"certificate expires in 2 hours"}},
		{"just over", valid(-time.Second), nil, -1, []string{"certificate expired 0 minutes ago"}},
		{"over", valid(-3 * day), nil, -3, []string{"certificate expired 3 days ago"}},
		{"not yet", early, nil, 90, []string{"certificate not valid before 2026-03-10T13:00:00Z"}},
		{
			"another name", valid(90 * day),
			[]string{"a.test", "b.test", "*.c.test"},
			90,
			[]string{"certificate is valid for a.test, not for b.test, *.c.test"},
		},
		{
			"both", valid(day),
			[]string{"b.test", "c.test", "d.test", "e.test", "f.test", "g.test", "h.test"},
			1,
			[]string{
				"certificate expires in 1 day",
				"certificate is valid for a.test, not for b.test, c.test, d.test, e.test, f.test and 2 more",
			},
		},
		{
			"no name",
			health.Certificate{NotAfter: now.Add(90 * day)},
			[]string{"a.test"},
			90,
			[]string{"certificate is valid for no name, not for a.test"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.c.Warnings(now, notice, tt.hosts); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if got := tt.c.DaysLeft(now); got != tt.wantDays {
				t.Errorf("%d days left, want %d", got, tt.wantDays)
			}
		})
	}
}

func TestCertificateChanged(t *testing.T) {
	before := health.Certificate{
		Fingerprint: "1", Issuer: "CN=R10", Names: []string{"a.test", "b.test"}, NotAfter: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
	}
	other := func(change func(*health.Certificate)) health.Certificate {
		c := before
		c.Fingerprint = "2"
		change(&c)
		return c
	}
	for _, tt := range []struct {
		name  string
		after health.Certificate
		want  string
	}{
		{"not", before, ""},
		{"key alone", other(func(*health.Certificate) {}), "certificate chain changed: same issuer, names and expiry"},
		{
			"order of names", other(func(c *health.Certificate) { c.Names = []string{"b.test", "a.test"} }),
			"certificate chain changed: same issuer, names and expiry",
		},
		{"all", other(func(c *health.Certificate) {
			c.Issuer, c.Names, c.NotAfter = "CN=Evil", []string{"a.test"}, c.NotAfter.AddDate(0, 3, 0)
		}), `certificate chain changed: issuer "CN=Evil", was "CN=R10"; names a.test, were a.test, b.test; expires 2026-06-01, was 2026-03-01`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.after.Changed(&before); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCoalescing(t *testing.T) {
	routes := func(s string) (out []health.HostPool) {
		for pair := range strings.FieldsSeq(s) {
			host, pool, _ := strings.Cut(pair, "=")
			out = append(out, health.HostPool{Host: host, Pool: pool})
		}
		return out
	}
	for _, tt := range []struct {
		name, routes string
		names        map[string][]string
		want         []string // POOL NAME HOST OTHER
	}{
		{"each its own", "a.test=A b.test=B", map[string][]string{"A": {"a.test"}, "B": {"b.test"}}, nil},
		{
			"one for both", "a.test=A b.test=B",
			map[string][]string{"A": {"a.test", "B.test"}, "B": {"b.test"}},
			[]string{"A b.test b.test B"},
		},
		{
			"a wildcard over an exact host", "*.x.test=A api.x.test=B x.test=C",
			map[string][]string{"A": {"*.x.test"}},
			[]string{"A *.x.test api.x.test B"},
		},
		{
			"a wildcard over the rest", "www.x.test=A *.x.test=B",
			map[string][]string{"A": {"*.x.test"}},
			[]string{"A *.x.test *.x.test B"},
		},
		{
			"a wildcard over a deep pattern", "www.x.test=A **.test=B",
			map[string][]string{"A": {"*.x.test"}},
			[]string{"A *.x.test **.test B"},
		},
		{
			"the most specific pattern decides", "w.x.test=A *.x.test=A **.x.test=B **.test=C *=D",
			map[string][]string{"A": {"w.x.test", "*.x.test"}},
			nil,
		},
		{
			"an exact name under patterns", "w.x.test=A **.x.test=B *=C",
			map[string][]string{"A": {"w.x.test", "q.x.test", "q.r.x.test", "other.test", "bare"}},
			[]string{"A bare * C", "A q.r.x.test **.x.test B"},
		},
		{"a name that goes nowhere", "a.test=A", map[string][]string{"A": {"a.test", "b.test", "*.c.test"}}, nil},
		{"a host with several routes", "a.test=A b.test=B b.test=A", map[string][]string{"A": {"b.test"}}, nil},
		{
			"two names over one host", "a.test=A b.x.test=B",
			map[string][]string{"A": {"b.x.test", "*.x.test"}},
			[]string{"A *.x.test b.x.test B"},
		},
		{"a wildcard is one label", "a.test=A b.c.x.test=B", map[string][]string{"A": {"*.x.test"}}, nil},
		{"hello without a name", "a.test=A -=B", map[string][]string{"A": {"*.test"}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, o := range health.Coalescing(tt.names, routes(tt.routes)) {
				got = append(got, fmt.Sprint(o.Pool, " ", o.Name, " ", o.Host, " ", o.Other))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	o := health.Overlap{Pool: "A", Name: "*.x.test", Host: "api.x.test", Other: "B"}
	want := `a certificate of pool "A" covers api.x.test (by "*.x.test"), which routes to pool "B": over HTTP/2 a client may reuse its connection and reach the wrong pool`
	if got := o.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A chain that changes while the backend is up is reported, one that stays is not.
func TestChangeOfChainIsReported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chain := func(raw string) health.Observation {
			return health.Observation{Certificates: []*x509.Certificate{{Raw: []byte(raw)}}}
		}
		p := &scripted{seen: chain("1")}
		r := newRig(t, every("a", p))
		defer r.stop()
		r.want("a unknown>ready @0s")
		p.see(chain("1"))
		r.after(time.Second)
		r.want()
		p.see(chain("2"))
		r.after(2 * time.Second)
		r.want("a ready>ready @2s")
	})
}

func TestIntervalDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{}
		target := every("a", p)
		target.Options.Interval, target.Options.IntervalDown = time.Minute, time.Second
		r := newRig(t, target)
		defer r.stop()
		r.want("a unknown>ready @0s")
		p.answer(errRefused)
		r.after(3 * time.Minute)
		r.want("a ready>down (connect: connection refused) @3m0s")
		p.answer(nil)
		r.after(2 * time.Second)
		r.want("a down>ready @3m2s")
		r.after(58 * time.Second)
		for range 3 { // a session may take it down: then too
			r.Failed("a", errRefused)
		}
		synctest.Wait()
		r.want("a ready>down passive (connect: connection refused) @4m0s")
		r.after(2 * time.Second)
		r.want("a down>ready @4m2s")
		if got := len(p.times()); got != 8 {
			t.Errorf("%d probes, want 8", got)
		}
	})
}

// Jitter is a tenth of the interval in use unless it is set, and never more than it.
func TestJitterWhileDown(t *testing.T) {
	for _, tt := range []struct {
		name            string
		jitter          time.Duration
		shortest, width time.Duration
	}{
		{"default", 0, 900 * time.Millisecond, 200 * time.Millisecond},
		{"set", 300 * time.Millisecond, 700 * time.Millisecond, 600 * time.Millisecond},
		{"more than the interval", time.Minute, 0, 2 * time.Second},
		{"none", -1, time.Second, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &scripted{err: errRefused}
				r := newRig(t, health.Target{ID: "a", Prober: p, Options: health.Options{
					Interval: time.Hour, IntervalDown: time.Second, Jitter: tt.jitter,
				}})
				defer r.stop()
				r.after(time.Minute)
				times := p.times()
				for i := range times[1:] {
					// The scheduler batches what is due within 2 ms.
					if gap := times[i+1].Sub(times[i]); gap < tt.shortest-3*time.Millisecond || gap > tt.shortest+tt.width+3*time.Millisecond {
						t.Errorf("probe %d came after %v, want %v to %v", i+1, gap, tt.shortest, tt.shortest+tt.width)
					}
				}
				if n := len(times); n < 40 || n > 90 {
					t.Errorf("%d probes in a minute, want 60", n)
				}
			})
		})
	}
}

// However long the interval, a start of many targets is over soon.
func TestManyRareTargetsStartSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var targets []health.Target
		var probers []*scripted
		for i := range 1000 {
			p := &scripted{}
			probers = append(probers, p)
			targets = append(targets, health.Target{ID: fmt.Sprint(i), Prober: p, Options: health.Options{Interval: time.Hour}})
		}
		r := newRig(t, targets...)
		defer r.stop()
		r.after(5 * time.Second)
		for i, p := range probers {
			if n := len(p.times()); n != 1 {
				t.Errorf("target %d had %d probes in the first 5s, want 1", i, n)
			}
		}
	})
}
