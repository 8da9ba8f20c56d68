package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strings"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/health/grpc"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/proxyheader"
	"github.com/snicketlb/snicket/pkg/registry"
)

// targetID names a backend to the checker. Names of pools hold no "/".
func targetID(pool, id string) string { return pool + "/" + id }

// cutTarget takes such a name apart.
func cutTarget(target string) (pool, id string) {
	pool, id, _ = strings.Cut(target, "/")
	return pool, id
}

// probeTarget is what the checker does with backend b of pool p. Other
// certificates make probes begin anew.
func probeTarget(p *config.Pool, b *registry.Backend, own probeSecrets) health.Target {
	h := &p.Health
	o := health.Options{
		Interval: h.Interval, IntervalDown: h.IntervalDown, Timeout: h.Timeout, Jitter: h.Jitter, Rise: h.Rise, Fall: h.Fall,
	}
	if o.Jitter == 0 {
		o.Jitter = -1 // none, where 0 is the default
	}
	settings := *h
	settings.Interval, settings.IntervalDown, settings.Timeout, settings.Jitter, settings.Rise, settings.Fall = 0, 0, 0, 0, 0, 0
	key := fmt.Sprintf("%v %+v %d %v", b.Address, settings, p.ProxyProtocol, p.SourceAddresses)
	if own.sum != "" {
		key += " " + own.sum
	}
	return health.Target{ID: targetID(p.Name, b.ID), Prober: prober(p, b, own), Options: o, Key: key}
}

// connector is how a probe connects to backend b of pool p.
func connector(p *config.Pool, b *registry.Backend) health.TCP {
	h := &p.Health
	connect := health.TCP{Address: b.Address.AddrPort.String()}
	switch {
	case b.Address.Kind == config.AddressUnix:
		connect.Network, connect.Address = "unix", b.Address.Path
	case h.Port != 0:
		connect.Address = netip.AddrPortFrom(b.Address.AddrPort.Addr(), h.Port).String()
	}
	for _, source := range p.SourceAddresses {
		if b.Address.Kind == config.AddressIP && source.Is4() == b.Address.AddrPort.Addr().Is4() {
			connect.Source = source
			break
		}
	}
	if p.ProxyProtocol != 0 && h.Kind != config.ProbeAgent { // an agent is another program
		connect.Preface = proxyheader.Local(p.ProxyProtocol)
	}
	return connect
}

func prober(p *config.Pool, b *registry.Backend, own probeSecrets) health.Prober {
	h, connect := &p.Health, connector(p, b)
	switch h.Kind {
	case config.ProbeTLS:
		probe := health.TLS{TCP: connect, Config: probeTLS(h, own)}
		if p.TLS == nil {
			return probe
		}
		asking := probe
		asking.Config = probe.Config.Clone()
		asking.Config.NextProtos = []string{"h2", "http/1.1"}
		return protocolProber{asking: asking, plain: probe}
	case config.ProbeHTTP, config.ProbeHTTPS:
		return httpProber(p, connect, own)
	case config.ProbeGRPC:
		probe := grpc.Probe{TCP: connect, Service: h.Service, Authority: h.Host}
		if h.TLS {
			probe.TLS = probeTLS(h, own)
		}
		return probe
	case config.ProbeExchange:
		return exchangeProber(h, connect, own)
	case config.ProbeAgent:
		return health.Agent{TCP: connect, Send: []byte(h.Send)}
	case config.ProbeTCP:
	}
	return connect
}

func httpProber(p *config.Pool, connect health.TCP, own probeSecrets) health.HTTP {
	h := &p.Health
	probe := health.HTTP{TCP: connect, Host: h.Host, Path: h.Path, Method: h.Method}
	if h.Kind == config.ProbeHTTPS {
		probe.TLS = probeTLS(h, own)
		if p.TLS != nil {
			probe.TLS.NextProtos = []string{"h2", "http/1.1"}
		}
	}
	if len(h.Headers) > 0 {
		probe.Header = http.Header{}
		for _, field := range h.Headers {
			probe.Header.Set(field.Name, field.Value)
		}
	}
	for _, r := range h.ExpectStatus {
		probe.Status = append(probe.Status, health.StatusRange{Min: r.First, Max: r.Last})
	}
	if h.ExpectBody != "" {
		probe.Body = regexp.MustCompile(h.ExpectBody) // the configuration has tried it
	}
	return probe
}

func exchangeProber(h *config.Health, connect health.TCP, own probeSecrets) health.Exchange {
	probe, ok := health.Preset(h.Preset)
	if !ok { // none, then
		probe.Send, probe.Expect = []byte(h.Send), regexp.MustCompile(h.Expect)
	}
	probe.TCP = connect
	if h.TLS {
		probe.TLS = probeTLS(h, own)
	}
	return probe
}

func probeTLS(h *config.Health, own probeSecrets) *tls.Config {
	c := &tls.Config{
		ServerName:         h.ServerName,
		RootCAs:            own.roots,
		InsecureSkipVerify: !h.Verify, //nolint:gosec // a probe of what a client will verify itself
	}
	if own.certificate != nil {
		c.Certificates = []tls.Certificate{*own.certificate}
	}
	return c
}

// protocolProber asks a backend which protocol it speaks. One that speaks none of
// those on offer and says so (alert no_application_protocol) works nevertheless:
// sessions that offer none reach it.
type protocolProber struct {
	asking, plain health.TLS
}

// Probe implements health.Prober.
func (p protocolProber) Probe(ctx context.Context) (health.Observation, error) {
	seen, err := p.asking.Probe(ctx)
	if err == nil || !strings.Contains(err.Error(), "no application protocol") {
		return seen, err
	}
	return p.plain.Probe(ctx)
}

// observe is told of transitions by the checker.
func (s *Server) observe(t health.Transition) {
	pool, id := cutTarget(t.ID)
	seen := registry.Probed{State: t.To, Since: t.Since, ALPN: t.Observation.ALPN, Agent: t.Observation.Agent}
	if t.Err != nil {
		seen.Why = t.Err.Error()
	}
	if c, ok := t.Observation.Certificate(); ok {
		seen.Certificate = registry.PackCertificate(c)
	} else if t.To == health.Down { // what it showed while it was up is what to compare with
		seen.Certificate = s.registry.View().Status(pool, id).Certificate
	}
	s.registry.Observe(pool, id, seen)
}

// offerOf is what clients of a terminated route are offered, by what the ready
// backends of its pool chose in their probes. Those never asked say nothing.
func offerOf(chosen []string) proxy.Offer {
	if len(chosen) == 0 {
		return proxy.OfferNone
	}
	offer := proxy.OfferH2
	for _, alpn := range chosen {
		switch alpn {
		case "h2":
		case "http/1.1":
			offer = proxy.OfferHTTP1
		default:
			return proxy.OfferNone
		}
	}
	return offer
}
