package demo

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
)

// backend starts an HTTP server on a free loopback port, under TLS if it has a name
// for a certificate, and returns its address.
func (s *stage) backend(name, certificate string) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	srv := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			transport := "plain text"
			if r.TLS != nil {
				transport = tls.VersionName(r.TLS.Version) + " for " + r.TLS.ServerName
			}
			fmt.Fprintf(w, "the %s backend on %s answers for %s: %s over %s\n", name, l.Addr(), r.Host, r.Proto, transport)
		}),
	}
	s.servers = append(s.servers, srv)
	if certificate == "" {
		go srv.Serve(l) //nolint:errcheck // ends when the stage closes it
		return l.Addr().String(), nil
	}
	own, err := s.authority.Issue(certs.IssueOptions{
		CommonName: "the " + name + " backend", Names: []string{certificate},
	})
	if err != nil {
		l.Close()
		return "", err
	}
	srv.TLSConfig = &tls.Config{Certificates: []tls.Certificate{own.Certificate}, MinVersion: tls.VersionTLS12}
	go srv.ServeTLS(l, "", "") //nolint:errcheck // ends when the stage closes it
	return l.Addr().String(), nil
}

// show tries every host by itself and says who answered, and how to try it by hand.
func (s *stage) show(ctx context.Context, address string) error {
	out := s.o.Stdout
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Snicket listens on %s and routes by server name:\n\n", address)
	for _, h := range hosts() {
		fmt.Fprintf(out, "%s\n  %s\n", h.name, h.what)
		if err := s.try(ctx, out, address, port, h.name); err != nil {
			return fmt.Errorf("%s: %w", h.name, err)
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintf(out, "All three answered. Try them yourself:\n\n")
	for _, h := range hosts() {
		fmt.Fprintf(out, "  curl --cacert %s --resolve %s:%s:127.0.0.1 https://%s:%s/\n", s.caFile(), h.name, port, h.name, port)
	}
	fmt.Fprintln(out)
	return nil
}

// try asks host for a page and says who answered with whose certificate.
func (s *stage) try(ctx context.Context, out io.Writer, address, port, host string) error {
	dialer := net.Dialer{Timeout: 10 * time.Second}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.authority.Pool()},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
		DisableKeepAlives: true,
	}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+net.JoinHostPort(host, port)+"/", nil)
	if err != nil {
		return err
	}
	answer, err := client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", answer.Status)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "  certificate:\t%s\n", answer.TLS.PeerCertificates[0].Subject.CommonName)
	fmt.Fprintf(w, "  answer:\t%s", body)
	return w.Flush()
}
