package server

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/health/grpc"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/registry"
)

func TestProberConnects(t *testing.T) {
	ip := func(s string) config.Address {
		return config.Address{Kind: config.AddressIP, AddrPort: netip.MustParseAddrPort(s)}
	}
	four, six := netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("2001:db8::9")
	for _, tc := range []struct {
		name    string
		pool    config.Pool
		address config.Address
		want    health.TCP
	}{
		{"plain", config.Pool{}, ip("10.0.0.1:443"), health.TCP{Address: "10.0.0.1:443"}},
		{
			"a port of its own",
			config.Pool{Health: config.Health{Port: 8080}},
			ip("[2001:db8::1]:443"),
			health.TCP{Address: "[2001:db8::1]:8080"},
		},
		{
			"unix",
			config.Pool{Health: config.Health{Port: 8080}, SourceAddresses: []netip.Addr{four}},
			config.Address{Kind: config.AddressUnix, Path: "/run/a.sock"},
			health.TCP{Network: "unix", Address: "/run/a.sock"},
		},
		{
			"source of the family",
			config.Pool{SourceAddresses: []netip.Addr{four, six}},
			ip("[2001:db8::1]:443"),
			health.TCP{Address: "[2001:db8::1]:443", Source: six},
		},
		{
			"PROXY v1",
			config.Pool{ProxyProtocol: 1},
			ip("10.0.0.1:443"),
			health.TCP{Address: "10.0.0.1:443", Preface: []byte("PROXY UNKNOWN\r\n")},
		},
		{
			"PROXY v2",
			config.Pool{ProxyProtocol: 2},
			ip("10.0.0.1:443"),
			health.TCP{Address: "10.0.0.1:443", Preface: []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.pool.Health.Kind = config.ProbeTCP
			got, ok := prober(&tc.pool, &registry.Backend{Address: tc.address}, probeSecrets{}).(health.TCP)
			if !ok || got.Network != tc.want.Network || got.Address != tc.want.Address || got.Source != tc.want.Source ||
				!slices.Equal(got.Preface, tc.want.Preface) {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestProberKinds(t *testing.T) {
	b := &registry.Backend{Address: config.Address{Kind: config.AddressIP, AddrPort: netip.MustParseAddrPort("10.0.0.1:443")}}
	own := probeSecrets{roots: x509.NewCertPool(), certificate: &tls.Certificate{}}
	h := config.Health{Kind: config.ProbeTLS, ServerName: "a.test", Verify: true}

	seen, ok := prober(&config.Pool{Health: h}, b, own).(health.TLS)
	if c := seen.Config; !ok || c.ServerName != "a.test" || c.InsecureSkipVerify || c.RootCAs != own.roots ||
		len(c.Certificates) != 1 || c.NextProtos != nil {
		t.Errorf("tls, passthrough: got %+v", seen)
	}
	asks, ok := prober(&config.Pool{Health: h, TLS: &config.PoolTLS{}}, b, own).(protocolProber)
	if !ok || !slices.Equal(asks.asking.Config.NextProtos, []string{"h2", "http/1.1"}) || asks.plain.Config.NextProtos != nil {
		t.Errorf("tls, re-encrypted: got %+v", asks)
	}

	h = config.Health{
		Kind: config.ProbeHTTP, Path: "/healthz", Host: "b.test",
		ExpectStatus: []config.StatusRange{{First: 200, Last: 204}},
	}
	asked, ok := prober(&config.Pool{Health: h}, b, probeSecrets{}).(health.HTTP)
	if !ok || asked.TLS != nil || asked.Path != "/healthz" || asked.Host != "b.test" ||
		!slices.Equal(asked.Status, []health.StatusRange{{Min: 200, Max: 204}}) {
		t.Errorf("http: got %+v", asked)
	}
	h.Kind = config.ProbeHTTPS
	asked, ok = prober(&config.Pool{Health: h}, b, probeSecrets{}).(health.HTTP)
	if !ok || asked.TLS == nil || !asked.TLS.InsecureSkipVerify {
		t.Errorf("https: got %+v", asked)
	}
}

func TestProbeTargetKey(t *testing.T) {
	p := config.Pool{Name: "p", Health: config.Health{Kind: config.ProbeTCP, Interval: time.Second, Rise: 2}}
	b := &registry.Backend{ID: "b", Address: config.Address{Kind: config.AddressIP, AddrPort: netip.MustParseAddrPort("10.0.0.1:443")}}
	first := probeTarget(&p, b, probeSecrets{})
	if first.ID != "p/b" || first.Options.Jitter != -1 || first.Options.Rise != 2 {
		t.Errorf("got %+v, want p/b without jitter, rise 2", first)
	}
	p.Health.Interval = time.Minute
	if got := probeTarget(&p, b, probeSecrets{}); got.Key != first.Key {
		t.Errorf("got key %q for another rhythm, want %q", got.Key, first.Key)
	}
	secret := probeSecrets{roots: x509.NewCertPool(), sum: "1"}
	same, other := probeTarget(&p, b, secret), probeSecrets{roots: x509.NewCertPool(), sum: "2"}
	if got := probeTarget(&p, b, secret); got.Key != same.Key {
		t.Errorf("got key %q for the same roots, want %q", got.Key, same.Key)
	}
	if got := probeTarget(&p, b, other); got.Key == same.Key {
		t.Errorf("got the same key %q for other roots", got.Key)
	}
	p.Health.Port = 99
	if got := probeTarget(&p, b, probeSecrets{}); got.Key == first.Key {
		t.Errorf("got the same key %q for another port", got.Key)
	}
}

// TestProberNewKinds holds every kind's settings, and that each preset of the
// configuration is one of the library's.
func TestProberNewKinds(t *testing.T) {
	b := &registry.Backend{Address: config.Address{Kind: config.AddressIP, AddrPort: netip.MustParseAddrPort("10.0.0.1:443")}}
	own := probeSecrets{roots: x509.NewCertPool()}
	pool := func(h config.Health) *config.Pool { return &config.Pool{ProxyProtocol: 1, Health: h} }

	asked, ok := prober(pool(config.Health{
		Kind: config.ProbeHTTP, Method: "POST", Headers: []config.Header{{Name: "X-A", Value: "b"}}, ExpectBody: "^ok",
	}), b, own).(health.HTTP)
	if !ok || asked.Method != "POST" || asked.Header.Get("X-A") != "b" || asked.Body.String() != "^ok" {
		t.Errorf("http: got %+v", asked)
	}
	called, ok := prober(pool(config.Health{Kind: config.ProbeGRPC, Service: "s", Host: "h", TLS: true, ServerName: "n"}), b, own).(grpc.Probe)
	if !ok || called.Service != "s" || called.Authority != "h" || called.TLS == nil || called.TLS.ServerName != "n" || called.Preface == nil {
		t.Errorf("grpc: got %+v", called)
	}
	told, ok := prober(pool(config.Health{Kind: config.ProbeExchange, Send: "a", Expect: "b"}), b, own).(health.Exchange)
	if !ok || string(told.Send) != "a" || told.Expect.String() != "b" || told.TLS != nil {
		t.Errorf("exchange: got %+v", told)
	}
	beside, ok := prober(pool(config.Health{Kind: config.ProbeAgent, Send: "a", Port: 9}), b, own).(health.Agent)
	if !ok || string(beside.Send) != "a" || beside.Address != "10.0.0.1:9" || beside.Preface != nil {
		t.Errorf("agent: got %+v, want port 9 and no PROXY header", beside)
	}
	for _, name := range health.Presets() {
		want, _ := health.Preset(name)
		got, ok := prober(pool(config.Health{Kind: config.ProbeExchange, Preset: name, TLS: true}), b, own).(health.Exchange)
		if !ok || got.Expect.String() != want.Expect.String() || got.TLS == nil || got.Address != "10.0.0.1:443" {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}
