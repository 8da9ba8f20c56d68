package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/proxyheader"
	"github.com/snicketlb/snicket/pkg/registry"
)

// certificateNotice is how long before its end a backend's certificate is spoken of.
const certificateNotice = 14 * 24 * time.Hour

// targetID names a backend to the checker. Names of pools hold no "/".
func targetID(pool, id string) string { return pool + "/" + id }

// probeTarget is what the checker does with backend b of pool p. generation makes
// probes begin anew after a reload that may have brought other certificates.
func probeTarget(p *config.Pool, b *registry.Backend, own probeSecrets, generation uint64) health.Target {
	h := &p.Health
	o := health.Options{Interval: h.Interval, Timeout: h.Timeout, Jitter: h.Jitter, Rise: h.Rise, Fall: h.Fall}
	if o.Jitter == 0 {
		o.Jitter = -1 // none, where 0 is the default
	}
	settings := *h
	settings.Interval, settings.Timeout, settings.Jitter, settings.Rise, settings.Fall = 0, 0, 0, 0, 0
	key := fmt.Sprintf("%v %+v %d %v", b.Address, settings, p.ProxyProtocol, p.SourceAddresses)
	if own.roots != nil || own.certificate != nil {
		key += " " + strconv.FormatUint(generation, 10)
	}
	return health.Target{ID: targetID(p.Name, b.ID), Prober: prober(p, b, own), Options: o, Key: key}
}

func prober(p *config.Pool, b *registry.Backend, own probeSecrets) health.Prober {
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
	if p.ProxyProtocol != 0 {
		connect.Preface = proxyheader.Local(p.ProxyProtocol)
	}
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
		probe := health.HTTP{TCP: connect, Host: h.Host, Path: h.Path}
		if h.Kind == config.ProbeHTTPS {
			probe.TLS = probeTLS(h, own)
			if p.TLS != nil {
				probe.TLS.NextProtos = []string{"h2", "http/1.1"}
			}
		}
		for _, r := range h.ExpectStatus {
			probe.Status = append(probe.Status, health.StatusRange{Min: r.First, Max: r.Last})
		}
		return probe
	case config.ProbeTCP:
	}
	return connect
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
	pool, id, _ := strings.Cut(t.ID, "/")
	status := registry.Status{Pool: pool, ID: id, State: t.To, Since: t.Since, ALPN: t.Observation.ALPN}
	if t.Err != nil {
		status.Why = t.Err.Error()
	}
	s.registry.Observe(status)
	if why := ageing(t.Observation.Certificates, t.At); t.To == health.Up && why != "" {
		s.log.Warn("backend certificate", slog.String("pool", pool), slog.String("backend", id), slog.String("why", why))
	}
}

// ageing says what will soon be, or is, wrong with the age of a backend's
// certificate; it takes nothing down.
func ageing(chain []*x509.Certificate, now time.Time) string {
	switch {
	case len(chain) == 0 || now.Add(certificateNotice).Before(chain[0].NotAfter):
		return ""
	case now.After(chain[0].NotAfter):
		return "expired on " + chain[0].NotAfter.UTC().Format(time.DateOnly)
	}
	return "expires on " + chain[0].NotAfter.UTC().Format(time.DateOnly)
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
