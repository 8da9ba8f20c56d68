package balancer_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

// model is a pool as one would write it without a thought for speed.
type model struct {
	pool    *balancer.Pool
	options balancer.Options
	now     time.Time
	specs   []balancer.Spec
	known   map[string]*wishes
	active  map[*balancer.Backend]int
	total   map[*balancer.Backend]uint64
	session []*balancer.Backend
	waiting []*waiting
}

// wishes is what was told of a backend beside its spec.
type wishes struct {
	marks         [4]bool // by State; that of Ready is never set
	weight, share int
}

// waiting is one session in the queue.
type waiting struct {
	tried  []*balancer.Backend
	cancel func() bool
	told   bool
	given  *balancer.Backend
}

// FuzzPool makes a pool do what the input says, four bytes a step, and holds it
// against the model after each.
func FuzzPool(f *testing.F) {
	f.Add([]byte{3, 7, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0})
	f.Add([]byte{3, 255, 9, 4, 0, 0, 0, 0, 2, 1, 2, 0, 0, 1, 0, 0, 3, 5, 8, 0, 1, 0, 0, 0})
	f.Add([]byte{3, 3, 16, 0, 0, 0, 0, 0, 0, 3, 0, 0, 2, 0, 2, 0, 2, 1, 1, 0, 0, 0, 0, 0})
	f.Add([]byte{6, 0, 0, 9, 3, 3, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 7, 1, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 8, 1, 0, 0, 1, 0, 0, 0, 2, 1, 2, 0, 2, 0, 2, 0})
	f.Add([]byte{3, 255, 1, 0, 6, 2, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 4, 0, 5, 0, 5, 1, 50, 0, 6, 4, 128, 0, 0, 3, 0, 0, 2, 0, 3, 1, 6, 5, 64, 200, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		m := &model{
			pool:   balancer.New("fuzz"),
			now:    time.Now(),
			known:  make(map[string]*wishes),
			active: make(map[*balancer.Backend]int),
			total:  make(map[*balancer.Backend]uint64),
		}
		m.configure(0, 0, 0)
		script = script[:min(len(script)&^3, 4*128)]
		for step := range slices.Chunk(script, 4) {
			m.do(t, step)
			m.serve(t)
			m.check(t)
		}
	})
}

func (m *model) do(t *testing.T, step []byte) {
	id := fmt.Sprintf("b%d", step[1]%8)
	w := m.known[id]
	var got bool
	switch step[0] % 9 {
	case 0:
		m.acquire(t, step[1], step[2])
		return
	case 1:
		m.release(int(step[1]), time.Duration(step[2])*time.Millisecond)
		return
	case 2:
		s := balancer.State(step[2] % 4)
		if step[3]%2 == 0 {
			got = m.pool.SetState(id, s)
			if w != nil {
				w.marks = [4]bool{}
			}
		} else {
			got = m.pool.Mark(id, s, step[3]%4 == 1)
		}
		if w != nil && s != balancer.Ready {
			w.marks[s] = step[3]%2 == 0 || step[3]%4 == 1
		}
	case 3:
		m.update(t, step[1], step[2], step[3])
		return
	case 4:
		n := int(step[2]%8) - 1
		got = m.pool.SetWeight(id, n)
		if w != nil {
			w.weight = n
		}
	case 5:
		got = m.pool.SetShare(id, int(step[2]))
		if w != nil {
			w.share = int(step[2])
		}
	case 6:
		m.configure(step[1], step[2], step[3])
		return
	case 7:
		m.wait(t, step[1])
		return
	case 8:
		m.leave(t, int(step[1]))
		return
	}
	if got != (w != nil) {
		t.Fatalf("%s is known: %v, want %v", id, got, w != nil)
	}
}

func (m *model) configure(policy, panicBelow, rest byte) {
	m.options = balancer.Options{
		Policy:     balancer.Policy(policy % 6),
		PanicBelow: float64(panicBelow) / 255,
		QueueSize:  int(rest % 8),
		SlowStart:  time.Duration(rest/8%4) * time.Second,
		Now:        func() time.Time { return m.now },
		Rand:       rand.New(rand.NewPCG(uint64(rest), 0)).Uint64,
	}
	m.now = m.now.Add(time.Duration(rest) * 50 * time.Millisecond)
	m.pool.Configure(m.options)
}

// update makes backends b0 to b7 members as the bits of which say.
func (m *model) update(t *testing.T, which, shape, limits byte) {
	var specs []balancer.Spec
	for i := range 8 {
		if which>>i&1 == 0 {
			continue
		}
		s := balancer.Spec{ID: fmt.Sprintf("b%d", i), Weight: (int(shape) + i) % 4, Backup: shape>>(4+i%4)&1 == 1, Tier: i % 3 * int(limits>>7)}
		if limits>>i&1 == 1 {
			s.MaxConnections = 1 + i%3
		}
		specs = append(specs, s)
	}
	var wantAdded, wantRemoved []string
	known := make(map[string]*wishes)
	for _, s := range specs {
		known[s.ID] = m.known[s.ID]
		if known[s.ID] == nil {
			known[s.ID] = &wishes{weight: -1, share: 100}
			wantAdded = append(wantAdded, s.ID)
		}
	}
	for _, s := range m.specs {
		if known[s.ID] == nil {
			wantRemoved = append(wantRemoved, s.ID)
		}
	}
	added, removed := m.pool.Update(specs)
	if !slices.Equal(added, wantAdded) || !slices.Equal(removed, wantRemoved) {
		t.Fatalf("added %q, removed %q, want %q and %q", added, removed, wantAdded, wantRemoved)
	}
	m.specs, m.known = specs, known
}

func (m *model) tried(bits byte) (tried []*balancer.Backend) {
	for i, b := range m.pool.Backends() {
		if bits>>i&1 == 1 {
			tried = append(tried, b)
		}
	}
	return tried
}

func (m *model) acquire(t *testing.T, triedBits, client byte) {
	pk := balancer.Pick{Tried: m.tried(triedBits)}
	if client > 0 {
		pk.Client, pk.Name = netip.AddrFrom4([4]byte{10, 0, 0, client}), fmt.Sprint(client)
	}
	allowed, wantErr := m.candidates(pk.Tried)
	b, err := m.pool.Acquire(pk)
	if !errors.Is(err, wantErr) {
		t.Fatalf("error %v, want %v", err, wantErr)
	}
	if err == nil {
		m.given(t, b, allowed)
	}
}

// given counts a session that the pool gave to b.
func (m *model) given(t *testing.T, b *balancer.Backend, allowed []*balancer.Backend) {
	if !slices.Contains(allowed, b) {
		t.Fatalf("picked %v, want one of %q", b, ids(allowed))
	}
	if m.options.Policy == balancer.LeastConnections && m.options.SlowStart == 0 {
		for _, other := range allowed {
			got, least := float64(m.active[b])/m.weight(b.ID()), float64(m.active[other])/m.weight(other.ID())
			if least < got*(1-1e-9) {
				t.Fatalf("picked %s with %v sessions per weight, %s has %v", b.ID(), got, other.ID(), least)
			}
		}
	}
	m.active[b]++
	m.total[b]++
	m.session = append(m.session, b)
}

// weight is what b counts for: in units of 1/1024, a little more than none if
// it is less than that.
func (m *model) weight(id string) float64 {
	i := slices.IndexFunc(m.specs, func(s balancer.Spec) bool { return s.ID == id })
	w, known := m.specs[i].Weight, m.known[id]
	if known.weight >= 0 {
		w = known.weight
	}
	if w > 0 && known.share > 0 {
		return float64(max(w*1024*known.share/100, 1))
	}
	return 0
}

// candidates returns the backends that may be picked, and the error if none may.
func (m *model) candidates(tried []*balancer.Backend) ([]*balancer.Backend, error) {
	tiers, inUse, panics := m.tiers()
	for number := range 4 {
		var allowed []*balancer.Backend
		full := false
		for i, b := range m.pool.Backends() {
			s := m.specs[i]
			w := m.known[s.ID].marks
			ready := w == [4]bool{} || panics && (inUse < 0 || inUse == number) && !w[balancer.Draining]
			if tierOf(s) != number || tiers[number] == nil || !ready || m.weight(s.ID) == 0 || slices.Contains(tried, b) {
				continue
			}
			if s.MaxConnections > 0 && m.active[b] >= s.MaxConnections {
				full = true
				continue
			}
			allowed = append(allowed, b)
		}
		if len(allowed) > 0 {
			return allowed, nil
		}
		if full {
			return nil, balancer.ErrFull
		}
	}
	return nil, balancer.ErrNoBackend
}

// tiers returns how many backends are ready of how many wanted, by tier, which
// tier is in use, and whether the pool is in panic.
func (m *model) tiers() (tiers map[int]*[2]int, inUse int, panics bool) {
	tiers, inUse = map[int]*[2]int{}, -1
	all := 0
	for _, s := range m.specs {
		n, w := tierOf(s), m.known[s.ID].marks
		if m.weight(s.ID) == 0 {
			continue
		}
		if tiers[n] == nil {
			tiers[n] = new([2]int)
		}
		if w == [4]bool{} {
			tiers[n][0]++
			if inUse < 0 || n < inUse {
				inUse = n
			}
		}
		if !w[balancer.Draining] {
			tiers[n][1]++
			all++
		}
	}
	if inUse < 0 {
		return tiers, -1, all > 0 && m.options.PanicBelow > 0
	}
	return tiers, inUse, float64(tiers[inUse][0])/float64(tiers[inUse][1]) < m.options.PanicBelow
}

func (m *model) release(i int, took time.Duration) {
	if len(m.session) == 0 {
		return
	}
	i %= len(m.session)
	b := m.session[i]
	m.session = slices.Delete(m.session, i, i+1)
	m.active[b]--
	m.pool.Release(b, balancer.Result{Dial: took})
}

func (m *model) wait(t *testing.T, triedBits byte) {
	w := &waiting{tried: m.tried(triedBits)}
	cancel, err := m.pool.Wait(balancer.Pick{Tried: w.tried}, func(b *balancer.Backend) {
		if w.told {
			t.Fatal("a session was told twice")
		}
		w.told, w.given = true, b
	})
	if (err != nil) != (len(m.waiting) >= m.options.QueueSize) || err != nil && !errors.Is(err, balancer.ErrQueueFull) {
		t.Fatalf("error %v with %d of %d waiting", err, len(m.waiting), m.options.QueueSize)
	}
	if err == nil {
		w.cancel = cancel
		m.waiting = append(m.waiting, w)
	}
}

func (m *model) leave(t *testing.T, i int) {
	if len(m.waiting) == 0 {
		return
	}
	i %= len(m.waiting)
	if !m.waiting[i].cancel() {
		t.Fatal("a session that waits could not leave")
	}
	m.waiting = slices.Delete(m.waiting, i, i+1)
}

// serve holds those who were told by the last step against those who should
// have been, in the order in which they came.
func (m *model) serve(t *testing.T) {
	var still []*waiting
	for _, w := range m.waiting {
		allowed, err := m.candidates(w.tried)
		if wait := errors.Is(err, balancer.ErrFull); wait == w.told {
			t.Fatalf("a session was told: %v, want %v: %v", w.told, !wait, err)
		}
		switch {
		case !w.told:
			still = append(still, w)
		case err != nil && w.given != nil:
			t.Fatalf("a session was given %s: %v", w.given.ID(), err)
		case err == nil:
			m.given(t, w.given, allowed)
		}
	}
	m.waiting = still
}

func (m *model) check(t *testing.T) {
	backends := m.pool.Backends()
	for i, s := range m.specs {
		b, w := backends[i], m.known[s.ID]
		if b.ID() != s.ID || b.Spec() != s || b.Share() != w.share {
			t.Fatalf("backend %d is %v with share %d; want %v, %d", i, b.Spec(), b.Share(), s, w.share)
		}
		for _, mark := range []balancer.State{balancer.Draining, balancer.Down, balancer.Ejected} {
			if b.Marked(mark) != w.marks[mark] {
				t.Fatalf("%s is marked %s: %v", s.ID, mark, b.Marked(mark))
			}
		}
	}
	if got := m.pool.QueueLength(); got != len(m.waiting) || len(backends) != len(m.specs) {
		t.Fatalf("%d of %d backends, %d of %d waiting", len(backends), len(m.specs), got, len(m.waiting))
	}
	if _, _, panics := m.tiers(); m.pool.Panicking() != panics {
		t.Fatalf("in panic: %v, want %v", m.pool.Panicking(), panics)
	}
	for b, n := range m.active {
		if b.Active() != n || b.Total() != m.total[b] {
			t.Fatalf("%s has %d sessions, %d in all, want %d and %d", b.ID(), b.Active(), b.Total(), n, m.total[b])
		}
	}
}
