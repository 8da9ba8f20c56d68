// Probe probes backends by package health alone and says what becomes of them,
// until it is interrupted:
//
//	go run ./examples/probe tcp:127.0.0.1:22 http:127.0.0.1:8080/healthz \
//		tls:example.com:443 postgres:127.0.0.1:5432 agent:127.0.0.1:9999
//
// Beside the kinds tcp, tls, http, https and agent it takes the names of the
// presets. Certificates are not verified but judged: that takes nothing down.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/snicketlb/snicket/health"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: probe KIND:HOST:PORT[/PATH]...")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, backends []string) error {
	var targets []health.Target
	for _, backend := range backends {
		p, err := prober(backend)
		if err != nil {
			return fmt.Errorf("%s: %w", backend, err)
		}
		targets = append(targets, health.Target{
			ID: backend, Prober: p, Options: health.Options{IntervalDown: time.Second},
		})
	}
	checker := health.NewChecker(report, health.CheckerOptions{})
	checker.Update(targets)
	return checker.Run(ctx)
}

// prober returns the probe of a backend, KIND:HOST:PORT[/PATH].
func prober(backend string) (health.Prober, error) {
	kind, rest, _ := strings.Cut(backend, ":")
	address, path, hasPath := strings.Cut(rest, "/")
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if hasPath {
		path = "/" + path
	}
	connect := health.TCP{Address: address}
	unverified := &tls.Config{ServerName: host, InsecureSkipVerify: true} //nolint:gosec // report judges what is seen
	switch kind {
	case "tcp":
		return connect, nil
	case "tls":
		return health.TLS{TCP: connect, Config: unverified}, nil
	case "http":
		return health.HTTP{TCP: connect, Path: path}, nil
	case "https":
		return health.HTTP{TCP: connect, Path: path, TLS: unverified}, nil
	case "agent":
		return health.Agent{TCP: connect}, nil
	}
	p, ok := health.Preset(kind)
	if !ok {
		return nil, errors.New("unknown kind; the presets are " + strings.Join(health.Presets(), ", "))
	}
	p.TCP = connect
	return p, nil
}

// report is told when a backend goes down or comes back, when its certificate
// changes, and when its agent has a new wish.
func report(t health.Transition) {
	fmt.Println(t.At.Format(time.TimeOnly), t.ID, "is", t.To)
	if t.Err != nil {
		fmt.Println("  because", t.Err)
	}
	if agent := t.Observation.Agent; agent.Wish != health.NoWish {
		fmt.Println("  its agent wishes", agent.Wish)
	}
	if agent := t.Observation.Agent; agent.Weighs {
		fmt.Printf("  its agent wants %d%% of its weight\n", agent.Weight)
	}
	certificate, ok := t.Observation.Certificate()
	if !ok {
		return
	}
	host := certificateHost(t.ID)
	fmt.Printf("  certificate by %s, %d days left\n", certificate.Issuer, certificate.DaysLeft(t.At))
	for _, warning := range certificate.Warnings(t.At, 14*24*time.Hour, []string{host}) {
		fmt.Println("  warning:", warning)
	}
}

// certificateHost returns the host of a backend, KIND:HOST:PORT[/PATH].
func certificateHost(backend string) string {
	_, rest, _ := strings.Cut(backend, ":")
	address, _, _ := strings.Cut(rest, "/")
	host, _, _ := net.SplitHostPort(address) // prober has looked at it
	return host
}
