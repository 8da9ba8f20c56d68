package balancer_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/snicketlb/snicket/balancer"
)

// model is a pool as one would write it without a thought for speed.
type model struct {
	pool    *balancer.Pool
	specs   []balancer.Spec
	state   map[string]balancer.State
	active  map[*balancer.Backend]int
	total   map[*balancer.Backend]uint64
	session []*balancer.Backend
}

// FuzzPool makes a pool do what the input says, four bytes a step, and holds it
// against the model after each.
func FuzzPool(f *testing.F) {
	f.Add([]byte{3, 7, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0})
	f.Add([]byte{3, 255, 9, 4, 0, 0, 0, 0, 2, 1, 2, 0, 0, 1, 0, 0, 3, 5, 8, 0, 1, 0, 0, 0})
	f.Add([]byte{3, 3, 16, 0, 0, 0, 0, 0, 0, 3, 0, 0, 2, 0, 2, 0, 2, 1, 1, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, script []byte) {
		m := &model{
			pool:   balancer.New("fuzz"),
			state:  make(map[string]balancer.State),
			active: make(map[*balancer.Backend]int),
			total:  make(map[*balancer.Backend]uint64),
		}
		script = script[:min(len(script)&^3, 4*256)]
		for step := range slices.Chunk(script, 4) {
			switch step[0] % 4 {
			case 0:
				m.acquire(t, step[1])
			case 1:
				m.release(int(step[1]))
			case 2:
				m.setState(t, fmt.Sprintf("b%d", step[1]%8), balancer.State(step[2]%4))
			case 3:
				m.update(t, step[1], step[2], step[3])
			}
			m.check(t)
		}
	})
}

// update makes backends b0 to b7 members as the bits of which say.
func (m *model) update(t *testing.T, which, shape, limits byte) {
	var specs []balancer.Spec
	for i := range 8 {
		if which>>i&1 == 0 {
			continue
		}
		s := balancer.Spec{ID: fmt.Sprintf("b%d", i), Weight: (int(shape) + i) % 4, Backup: shape>>(4+i%4)&1 == 1}
		if limits>>i&1 == 1 {
			s.MaxConnections = 1 + i%3
		}
		specs = append(specs, s)
	}
	had := make(map[string]bool)
	for _, s := range m.specs {
		had[s.ID] = true
	}
	var wantAdded, wantRemoved []string
	state := make(map[string]balancer.State)
	for _, s := range specs {
		if had[s.ID] {
			state[s.ID] = m.state[s.ID]
			delete(had, s.ID)
		} else {
			wantAdded = append(wantAdded, s.ID)
		}
	}
	for _, s := range m.specs {
		if had[s.ID] {
			wantRemoved = append(wantRemoved, s.ID)
		}
	}
	added, removed := m.pool.Update(specs)
	if !slices.Equal(added, wantAdded) || !slices.Equal(removed, wantRemoved) {
		t.Fatalf("added %q, removed %q, want %q and %q", added, removed, wantAdded, wantRemoved)
	}
	m.specs, m.state = specs, state
}

func (m *model) setState(t *testing.T, id string, s balancer.State) {
	known := slices.ContainsFunc(m.specs, func(s balancer.Spec) bool { return s.ID == id })
	if got := m.pool.SetState(id, s); got != known {
		t.Fatalf("SetState(%s) = %v, want %v", id, got, known)
	}
	if known {
		m.state[id] = s
	}
}

func (m *model) acquire(t *testing.T, triedBits byte) {
	var tried []*balancer.Backend
	for i, b := range m.pool.Backends() {
		if triedBits>>i&1 == 1 {
			tried = append(tried, b)
		}
	}
	allowed, wantErr := m.candidates(tried)
	b, err := m.pool.Acquire(balancer.Pick{Tried: tried})
	if !errors.Is(err, wantErr) {
		t.Fatalf("error %v, want %v", err, wantErr)
	}
	if err != nil {
		return
	}
	if !slices.Contains(ids(allowed), b.ID()) {
		t.Fatalf("picked %s, want one of %q", b.ID(), ids(allowed))
	}
	for _, other := range allowed {
		got := float64(m.active[b]) / float64(b.Spec().Weight)
		least := float64(m.active[other]) / float64(other.Spec().Weight)
		if least < got {
			t.Fatalf("picked %s with %v sessions per weight, %s has %v", b.ID(), got, other.ID(), least)
		}
	}
	m.active[b]++
	m.total[b]++
	m.session = append(m.session, b)
}

// candidates returns the backends that may be picked, and the error if none may.
func (m *model) candidates(tried []*balancer.Backend) ([]*balancer.Backend, error) {
	for _, backup := range []bool{false, true} {
		var allowed []*balancer.Backend
		full := false
		for i, b := range m.pool.Backends() {
			s := m.specs[i]
			if s.Backup != backup || s.Weight == 0 || m.state[s.ID] != balancer.Ready || slices.Contains(tried, b) {
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

func (m *model) release(i int) {
	if len(m.session) == 0 {
		return
	}
	i %= len(m.session)
	b := m.session[i]
	m.session = slices.Delete(m.session, i, i+1)
	m.active[b]--
	m.pool.Release(b, balancer.Result{})
}

func (m *model) check(t *testing.T) {
	backends := m.pool.Backends()
	ready := 0
	for i, s := range m.specs {
		b := backends[i]
		if b.ID() != s.ID || b.Spec() != s || b.State() != m.state[s.ID] {
			t.Fatalf("backend %d is %v, %s; want %v, %s", i, b.Spec(), b.State(), s, m.state[s.ID])
		}
		if s.Weight > 0 && m.state[s.ID] == balancer.Ready {
			ready++
		}
	}
	if got := m.pool.Ready(); got != ready || len(backends) != len(m.specs) {
		t.Fatalf("%d ready of %d, want %d of %d", got, len(backends), ready, len(m.specs))
	}
	for b, n := range m.active {
		if b.Active() != n || b.Total() != m.total[b] {
			t.Fatalf("%s has %d sessions, %d in all, want %d and %d", b.ID(), b.Active(), b.Total(), n, m.total[b])
		}
	}
}
