package proxy

import (
	"github.com/snicketlb/snicket/pkg/loop"
)

// shakeQueue holds the sessions of one loop whose handshakes can go on, in the
// order in which they came to. One step costs a tenth of a millisecond or more,
// so the loop takes one a turn, and serves what else is ready in between.
type shakeQueue struct {
	l           *loop.Loop
	tok         loop.Token
	first, last *terminal
	asked       bool // for a turn
}

func (q *shakeQueue) init(l *loop.Loop) {
	q.l = l
	q.tok = l.Attach(q)
}

// push puts t at the end, unless it waits already.
func (q *shakeQueue) push(t *terminal) {
	if t.queued {
		return
	}
	t.queued = true
	if q.last != nil {
		q.last.next = t
	} else {
		q.first = t
	}
	q.last = t
	q.ask()
}

// ask asks for the next turn while anything waits.
func (q *shakeQueue) ask() {
	if q.first != nil && !q.asked {
		q.asked = true
		q.l.Again(q.tok)
	}
}

// Ready takes the first one a step further. One whose session has ended meanwhile
// costs nothing.
func (q *shakeQueue) Ready(loop.Events) {
	q.asked = false
	for q.first != nil {
		t := q.first
		if q.first = t.next; q.first == nil {
			q.last = nil
		}
		t.next, t.queued = nil, false
		if t.shake != nil {
			q.ask()
			t.step()
			return
		}
	}
}

// offload has work done by a goroutine and then done called on the loop, which
// leaves the scheduler room meanwhile. Proxy.Run waits for the goroutine.
func (w *worker) offload(work, done func()) {
	w.l.Background(1)
	w.p.offloaded.Go(func() {
		work()
		w.l.Post(func() {
			w.l.Background(-1)
			done()
		})
	})
}

// clientAtGate ends a session whose client goes away before its turn. One that has
// sent its FIN has said hello and cannot say more, so that its handshake would be
// made for nobody.
func (t *terminal) clientAtGate(ev loop.Events) {
	t.client.Note(ev)
	if ev&(loop.PeerShut|loop.Hangup|loop.Error) != 0 {
		t.fail(ClientReset, ByClient, errLeftGate)
	}
}
