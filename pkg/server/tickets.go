package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/watch"
)

// ticketsEvery is how often the time is looked at: a machine that slept, or whose clock
// was set, is in another epoch than a timer knows.
const ticketsEvery = time.Minute

// tickets gives the TLS servers of a plan the keys of their session tickets.
type tickets struct {
	mu       sync.Mutex // guards the fields below
	schedule *certs.Tickets
	served   []ticketed
	until    time.Time // when the keys given cease to hold; zero: they have
}

// ticketed is a TLS server whose tickets are those of a policy: a *tls.Config, or the
// *terminate.Clients of several.
type ticketed struct {
	policy certs.TicketPolicy
	server interface{ SetSessionTicketKeys(keys [][32]byte) }
}

// tickets loads the secret of session tickets and follows it. What a reload does not
// change goes on: clients resume their sessions behind it.
func (b *builder) tickets(old *shared) {
	c := b.config.TLS.Tickets
	c.Rotate = cmp.Or(c.Rotate, time.Hour) // none in a file that could not be read
	read := func() ([]byte, []certs.Problem) { return nil, nil }
	if c.Secret.Path != "" {
		read = func() ([]byte, []certs.Problem) { return certs.Secret(c.Secret.Path) }
		b.secrets.follow("secret_file", []string{watch.Quote(c.Secret.Path)}, func() error {
			secret, problems := read()
			if secret != nil {
				b.shared.tickets.change(secret, c.Rotate, time.Now())
			}
			return joined(problems)
		})
	}
	secret, problems := read()
	b.secrets.reportAt(c.Secret.Pos, problems)
	var before *tickets
	if old != nil {
		before = old.tickets
	}
	b.shared.tickets = before.succeed(secret, c.Rotate, b.secrets.now)
}

// succeed returns what follows t, which may be nil, for a new plan.
func (t *tickets) succeed(secret []byte, every time.Duration, now time.Time) *tickets {
	schedule := certs.NewTickets(secret, every)
	if t != nil {
		t.mu.Lock()
		schedule = t.schedule.Succeed(secret, every, now)
		t.mu.Unlock()
	}
	return &tickets{schedule: schedule, until: schedule.Until(now)}
}

// change puts another secret into force.
func (t *tickets) change(secret []byte, every time.Duration, now time.Time) {
	t.mu.Lock()
	t.schedule = t.schedule.Succeed(secret, every, now)
	t.until = time.Time{}
	t.mu.Unlock()
	t.renew(now)
}

// resume goes on with the secret that another process has drawn.
func (t *tickets) resume(drawn []byte, now time.Time) {
	t.mu.Lock()
	t.schedule = t.schedule.Continue(drawn)
	t.until = time.Time{}
	t.mu.Unlock()
	t.renew(now)
}

// drawn is the secret that this process has drawn; nil: it has one of its owner's.
func (t *tickets) drawn() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.schedule.Drawn()
}

// serve gives the configurations of a terminator their keys, from now on. It must be
// called with the time that t was made at.
func (t *tickets) serve(p certs.TicketPolicy, of *proxy.Terminator, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	keys := t.schedule.Keys(p, now)
	for config := range of.Configs() {
		config.SetSessionTicketKeys(keys)
		t.served = append(t.served, ticketed{p, config})
	}
	if of.Clients != nil { // with configurations of its own
		of.Clients.SetSessionTicketKeys(keys)
		t.served = append(t.served, ticketed{p, of.Clients})
	}
}

// renew gives all servers the keys of the time now, if they have others, and returns
// when the next change is due.
func (t *tickets) renew(now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	until := t.schedule.Until(now)
	if until.Equal(t.until) {
		return until
	}
	t.until = until
	var keys [][32]byte
	for i, s := range t.served {
		if i == 0 || s.policy != t.served[i-1].policy {
			keys = t.schedule.Keys(s.policy, now)
		}
		s.server.SetSessionTicketKeys(keys)
	}
	return until
}

// renewTickets gives the plan in force its ticket keys as they change, until ctx is
// done. At worst a plan that has just come, and one whose clock was set, have them a
// minute late, which nobody notices: tickets of the epochs to both sides are accepted.
func (s *Server) renewTickets(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil
		}
		s.mu.Lock()
		t := s.plan.shared.tickets
		s.mu.Unlock()
		now := time.Now()
		timer.Reset(min(t.renew(now).Sub(now), ticketsEvery))
	}
}

// ticketPolicy is what the tickets of a route stand for: its name, and what it demands
// of its clients. Should an authority be exchanged while the plan is in force, it
// stays: a session that is resumed is held against the new one all the same.
func (s *secrets) ticketPolicy(r *config.Route) certs.TicketPolicy {
	p := &r.TLS.Policy
	if p.ClientAuth == config.ClientAuthNone {
		return certs.NewTicketPolicy(r.Name)
	}
	ca, _ := s.eye.ReadFile(p.ClientCA.Path) // what is wrong with it is told where it is loaded
	return certs.NewTicketPolicy(r.Name, []byte(p.ClientAuth), []byte(strings.Join(p.ClientNames, " ")), ca)
}

// joined is problems as one error; nil for none.
func joined[P fmt.Stringer](problems []P) error {
	var all []string
	for _, p := range problems {
		all = append(all, p.String())
	}
	if all == nil {
		return nil
	}
	return errors.New(strings.Join(all, "; "))
}
