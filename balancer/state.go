package balancer

import "strconv"

// State says whether a backend may be given new sessions, and if not, why. Its
// sessions that exist already are the caller's business in every state.
//
// Three marks make a state, each set and cleared by itself with [Pool.Mark],
// because those who know of them know nothing of each other: [Down] is a
// probe's verdict, [Ejected] comes from what sessions met, [Draining] is a
// wish. A backend without a mark is [Ready]; of several marks, Down shows
// before Draining and Draining before Ejected.
type State uint8

const (
	// Ready backends are given new sessions. A new backend is ready until it is
	// marked: not knowing is no reason to refuse.
	Ready State = iota
	// Draining backends keep the sessions they have and are given no new one,
	// because an operator or an agent wants it so. Not even a pool in panic
	// gives them one.
	Draining
	// Down backends are given no new session, because they would not serve it.
	Down
	// Ejected backends are given no new session for a while, because too many
	// failed.
	Ejected
)

// String returns "ready", "draining", "down" or "ejected".
func (s State) String() string {
	switch s {
	case Ready:
		return "ready"
	case Draining:
		return "draining"
	case Down:
		return "down"
	case Ejected:
		return "ejected"
	}
	return "State(" + strconv.Itoa(int(s)) + ")"
}

// marks holds one bit for each state but Ready.
type marks uint32

func markOf(s State) marks {
	if s == Ready || s > Ejected {
		return 0
	}
	return 1 << s
}

func (m marks) has(s State) bool { return m&markOf(s) != 0 }

func (m marks) state() State {
	for _, s := range [...]State{Down, Draining, Ejected} {
		if m.has(s) {
			return s
		}
	}
	return Ready
}
