package proxy

import (
	"testing"
	"unsafe"
)

// An idle connection costs its session: a pin, so that it does not grow unseen.
func TestSessionSize(t *testing.T) {
	if got := unsafe.Sizeof(session{}); got > 336 {
		t.Errorf("a session of %d bytes, want at most 336", got)
	}
}

func TestStore(t *testing.T) {
	const n = 50 * slabSessions
	w := new(worker)
	var st store
	peak := make([]*session, n)
	seen := map[*session]bool{}
	for i := range peak {
		s := st.get()
		if seen[s] || s.w != nil {
			t.Fatalf("session %d is not new", i)
		}
		s.w, peak[i], seen[s] = w, s, true
	}
	count := func(want int) {
		t.Helper()
		got := 0
		for s := range st.all() {
			if s.w != w {
				t.Fatal("a session that nobody took")
			}
			got++
		}
		if got != want {
			t.Fatalf("%d sessions, want %d", got, want)
		}
	}
	count(n)
	for i, s := range peak {
		if i%2 == 1 {
			st.put(s)
		}
	}
	count(n / 2)
	if got := len(st.slabs); got != n/slabSessions {
		t.Fatalf("%d slabs, want %d", got, n/slabSessions)
	}
	for i := range peak {
		if i%2 == 1 {
			if s := st.get(); s != peak[i] {
				t.Fatalf("place %d was free, and another was taken", i)
			} else if s.w != nil || s.place != uint32(i) {
				t.Fatalf("session %d is not zero but for its place: place %d", i, s.place)
			}
			peak[i].w = w
		}
	}
	count(n)
	if got := len(st.slabs); got != n/slabSessions {
		t.Errorf("%d slabs for the same sessions, want %d", got, n/slabSessions)
	}
}

// TestStoreGivesBack holds that memory comes back after a rush, and that a loop
// over all sessions may end them.
func TestStoreGivesBack(t *testing.T) {
	var st store
	const n = 4 * keepSlabs * slabSessions
	slabs := func() (got int) {
		for _, sl := range st.slabs {
			if sl != nil {
				got++
			}
		}
		return got
	}
	for round := range 3 {
		last := st.get()
		for range n {
			last = st.get()
		}
		if got := slabs(); got != n/slabSessions+1 {
			t.Fatalf("round %d: %d slabs, want %d", round, got, n/slabSessions+1)
		}
		ended := 0
		for s := range st.all() {
			if s != last {
				st.put(s)
				ended++
			}
		}
		if ended != n {
			t.Fatalf("round %d: %d sessions ended, want %d", round, ended, n)
		}
		if got := slabs(); got > keepSlabs+1 {
			t.Errorf("round %d: %d slabs for one session, want at most %d", round, got, keepSlabs+1)
		}
		st.put(last)
	}
	if got := len(st.slabs); got != n/slabSessions+1 {
		t.Errorf("%d slabs have been counted, want %d: places are used again", got, n/slabSessions+1)
	}
}
