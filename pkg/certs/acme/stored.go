package acme

import (
	"cmp"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
)

// reads bounds how long the storage may take for one name before nobody waits any more:
// on a network it may not answer for hours, and whoever reloads waits here.
const reads = 5 * time.Second

// Preload hands out what the storage has for names, beside what is handed out already,
// and asks nobody for more: that is left to Manage, which is to follow. So names can be
// served from the first moment, and validated by then. A storage that does not answer
// is waited for no longer than some seconds: what it has is then handed out when it
// comes.
func (m *Manager) Preload(names []string) {
	m.deliver.Lock()
	defer m.deliver.Unlock()
	if m.add(names) {
		m.hand()
	}
}

// add adds those of names that are new, with what the storage has for them, or what was
// handed out before, and reports whether there were any. The caller holds deliver.
func (m *Manager) add(names []string) bool {
	r := &reading{m: m, one: make(chan struct{}, 1), all: make(chan struct{})}
	m.mu.Lock()
	if m.stop == nil {
		m.mu.Unlock()
		return false
	}
	for _, host := range names {
		if m.names[host] == nil {
			m.names[host] = &name{cert: m.former(host)}
			r.hosts = append(r.hosts, host)
		}
	}
	if len(r.hosts) > 0 {
		m.workers.Go(r.run)
	}
	m.mu.Unlock()
	if len(r.hosts) > 0 {
		r.wait(cmp.Or(m.o.reads, reads))
	}
	return len(r.hosts) > 0
}

func (m *Manager) manages(host string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.names[host] != nil
}

// former is what was handed out for a name by the Manager before; nil: nothing.
func (m *Manager) former(host string) *certs.Certificate {
	for _, c := range m.o.Former {
		if slices.Contains(c.Names, host) {
			return c
		}
	}
	return nil
}

// reading is the search of the storage for certificates of new names, of which it reads
// the files and nothing else.
type reading struct {
	m     *Manager
	hosts []string
	late  atomic.Bool   // nobody waits any more
	one   chan struct{} // 1 deep: there was an answer for another name
	all   chan struct{} // closed: for all of them
}

func (r *reading) run() {
	defer close(r.all)
	for _, host := range r.hosts {
		if !r.take(host, r.m.storage.certificate(r.m.issuer, host)) {
			return
		}
		poke(r.one)
	}
	if r.late.Load() {
		r.m.deliver.Lock()
		defer r.m.deliver.Unlock()
		r.m.hand()
		r.m.log.Info("the storage of certificates answers again")
	}
}

// take takes what the storage has for a name, unless there is news already. It reports
// whether anybody wants more.
func (r *reading) take(host string, c *certs.Certificate) bool {
	r.m.mu.Lock()
	defer r.m.mu.Unlock()
	if n := r.m.names[host]; c != nil && n != nil && n.hash == "" {
		n.cert = c
	}
	return r.m.stop != nil
}

// wait waits until all has been read, or nothing comes for a while.
func (r *reading) wait(patience time.Duration) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		select {
		case <-r.all:
			return
		case <-r.one:
			timer.Reset(patience)
		case <-timer.C:
			r.late.Store(true) // before the caller hands out what there is
			r.m.log.Warn("the storage of certificates does not answer", slog.String("storage", r.m.o.Storage),
				slog.String("so", "hosts whose certificates it holds are served when it does"))
			return
		}
	}
}
