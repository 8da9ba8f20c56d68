package discover

import (
	"context"
	"sync"
)

// Group runs one source for each pool that has one.
type Group struct {
	report func(pool string, r Report)
	wake   chan struct{} // of capacity 1: members or leaving have changed

	mu      sync.Mutex         // guards the fields below
	members map[string]*member // by pool
	leaving []*member          // to be stopped
}

// member is the source of one pool.
type member struct {
	source *Source
	stop   context.CancelFunc // nil until the source runs
}

// NewGroup returns a group without sources. report is called for each [Report] of a
// source: in order for one source, at the same time for several. It may be slow and
// may call all methods but [Group.Run]. A source that was replaced may call once more
// after [Group.Update] has returned: Report.Settings tell it apart.
func NewGroup(report func(pool string, r Report)) *Group {
	return &Group{report: report, wake: make(chan struct{}, 1), members: map[string]*member{}}
}

// Update makes the sources those of want, by pool. One whose settings stay runs on
// undisturbed; one of which nothing but the resolvers changed starts with the set it
// had; all others that are new start empty. Before [Group.Run] nothing looks yet.
// It does not wait for sources to stop.
func (g *Group) Update(want map[string]Settings) {
	g.mu.Lock()
	defer g.mu.Unlock()
	former := g.members
	g.members = make(map[string]*member, len(want))
	for pool, settings := range want {
		old := former[pool]
		if old != nil && old.source.settings.Equal(settings) {
			g.members[pool] = old
			delete(former, pool)
			continue
		}
		source := New(settings)
		if old != nil && old.source.settings.SameQuestion(settings) {
			source.set, _ = old.source.Snapshot()
			source.status.Backends = len(source.set)
		}
		g.members[pool] = &member{source: source}
	}
	for _, m := range former {
		g.leaving = append(g.leaving, m)
	}
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// Snapshot returns the set in force and the status of a pool's source, and whether it
// has one. Any goroutine may call it.
func (g *Group) Snapshot(pool string) (set []Backend, st Status, ok bool) {
	g.mu.Lock()
	m := g.members[pool]
	g.mu.Unlock()
	if m == nil {
		return nil, Status{}, false
	}
	set, st = m.source.Snapshot()
	return set, st, true
}

// Run runs the sources until ctx is done, and returns when all have stopped. It is
// called once.
func (g *Group) Run(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		g.apply(ctx, &running)
		select {
		case <-g.wake:
		case <-ctx.Done():
			return
		}
	}
}

// apply stops the sources that leave and starts those that do not run yet.
func (g *Group) apply(ctx context.Context, running *sync.WaitGroup) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, m := range g.leaving {
		if m.stop != nil {
			m.stop()
		}
	}
	g.leaving = nil
	for pool, m := range g.members {
		if m.stop != nil {
			continue
		}
		var own context.Context
		own, m.stop = context.WithCancel(ctx)
		running.Go(func() { m.source.Run(own, func(r Report) { g.report(pool, r) }) })
	}
}
