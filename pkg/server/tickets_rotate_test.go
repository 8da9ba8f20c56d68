package server

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// TestTicketsRotate lets days pass: keys change by themselves, and a session is resumed
// in its epoch and the next one.
func TestTicketsRotate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rotate = 12 * time.Hour
		ca, err := certs.NewAuthority("ca")
		if err != nil {
			t.Fatal(err)
		}
		cert, err := ca.Issue(certs.IssueOptions{Names: []string{"a.test"}})
		if err != nil {
			t.Fatal(err)
		}
		config := &tls.Config{Certificates: []tls.Certificate{cert.Certificate}}
		old := (*tickets)(nil).succeed(nil, rotate, time.Now())
		old.serve(certs.NewTicketPolicy("shop"), &proxy.Terminator{Fixed: config}, time.Now())
		s := &Server{plan: &plan{shared: &shared{tickets: old}}}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.renewTickets(ctx) }()
		newClient := func() *tls.Config {
			return &tls.Config{RootCAs: ca.Pool(), ServerName: "a.test", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		}
		for _, tt := range []struct {
			after time.Duration
			want  bool
		}{
			{time.Minute, true},
			{rotate, true}, // in the next epoch, wherever in its own the ticket was made
			{2*rotate + time.Minute, false},
			{rotate - time.Minute, true},
			{5 * rotate, false},
		} {
			client := newClient()
			if visit(t, config, client) {
				t.Fatal("the first session is resumed")
			}
			time.Sleep(tt.after) //nolint:forbidigo // the bubble's time
			if got := visit(t, config, client); got != tt.want {
				t.Errorf("%v later: resumed %v, want %v", tt.after, got, tt.want)
			}
		}

		// A plan that comes later is given its keys as well, and a changed secret counts.
		client := newClient()
		visit(t, config, client)
		next := old.succeed(nil, rotate, time.Now())
		fresh := config.Clone()
		next.serve(certs.NewTicketPolicy("shop"), &proxy.Terminator{Fixed: fresh}, time.Now())
		s.mu.Lock()
		s.plan = &plan{shared: &shared{tickets: next}}
		s.mu.Unlock()
		next.change(make([]byte, 32), rotate, time.Now())
		if !visit(t, fresh, client) {
			t.Error("not resumed behind a reload and a change of the secret")
		}
		time.Sleep(2*rotate + time.Minute) //nolint:forbidigo // the bubble's time
		elsewhere := config.Clone()
		elsewhere.SetSessionTicketKeys(certs.NewTickets(make([]byte, 32), rotate).Keys(certs.NewTicketPolicy("shop"), time.Now()))
		visit(t, fresh, client)
		if !visit(t, elsewhere, client) {
			t.Error("a plan that came later has no keys of its time")
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// visit makes one session, and reports whether it was resumed.
func visit(t *testing.T, server, client *tls.Config) bool {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := tls.Server(near, server).Write([]byte("x"))
		done <- err
	}()
	c := tls.Client(far, client)
	if _, err := c.Read(make([]byte, 1)); err != nil { // the ticket comes first
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	near.Close()
	far.Close()
	return c.ConnectionState().DidResume
}
