package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

const (
	// waitEvery is how often it is looked whether what is waited for has come, and
	// waitTell how often at most that is told in a line of its own.
	waitEvery = 500 * time.Millisecond
	waitTell  = 10 * time.Second
)

// waiting is a command that waits for what it has wished of a backend: for drain and down
// that its sessions have ended, for ready that it is.
type waiting struct {
	state    string // drain, down or ready
	balancer *client.Client
	out      io.Writer
	// width is that of the terminal on which one line, drawn anew, tells how far it is; 0
	// where that cannot be.
	width int
	told  string
	at    time.Time // when
}

// until waits until what is wished has come for b, and tells how far it is. It returns
// the backend as it is then.
func (w *waiting) until(ctx context.Context, b admin.Backend) (admin.Backend, error) {
	begun := time.Now()
	look := time.NewTicker(waitEvery)
	defer look.Stop()
	for first := true; !w.come(&b); first = false {
		w.tell(&b, first, begun)
		var err error
		select {
		case <-look.C:
			b, err = w.look(ctx, &b)
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			w.clear()
			return b, w.givenUp(ctx, &b, time.Since(begun))
		}
		if err != nil {
			w.clear()
			return b, err
		}
	}
	w.clear()
	return b, nil
}

// come reports whether it has come to what is wished.
func (w *waiting) come(b *admin.Backend) bool {
	if w.state == "ready" {
		return b.State == "ready"
	}
	return b.Sessions == 0
}

// look asks how the backend is now. The error says why there is nothing to wait for.
func (w *waiting) look(ctx context.Context, b *admin.Backend) (admin.Backend, error) {
	w.balancer.Close() // another process may have taken over from the one that answered before
	list, err := w.balancer.Backends(ctx, b.Pool)
	if err != nil {
		return *b, err
	}
	i := slices.IndexFunc(list, func(x admin.Backend) bool { return x.Name == b.Name })
	if i < 0 {
		return *b, &hinted{fmt.Errorf("%s is no more", backendName(b)), "a reload, or what its addresses come from, has removed it; its sessions have the drain timeout to end"}
	}
	now := list[i]
	const whose = "snicket events tells whose"
	switch {
	case w.state == "ready" && now.Wish != nil:
		return now, &hinted{fmt.Errorf("%s: there is another wish, %s, by %s", backendName(b), now.Wish.Value, now.Wish.By), whose + " it is"}
	case w.state != "ready" && (now.Wish == nil || now.Wish.Value != w.state):
		return now, &hinted{fmt.Errorf("%s: the wish was taken back, with %s left", backendName(b), sessionsText(now.Sessions)), whose + " doing it was, or whether the balancer was started anew"}
	}
	return now, nil
}

// tell says how far it is.
func (w *waiting) tell(b *admin.Backend, first bool, begun time.Time) {
	name, text := backendName(b), sessionsText(b.Sessions)+" left"
	if w.state == "ready" {
		text = b.State
		if why := whyText(b); why != "" {
			text += ": " + why
		}
	}
	switch {
	case !first:
	case w.state == "ready":
		fmt.Fprintf(w.out, "waiting until %s is ready; Ctrl-C ends the waiting alone\n", name)
	default:
		fmt.Fprintf(w.out, "waiting until no session of %s is left; Ctrl-C ends the waiting, and it stays %s\n"+
			"snicket sessions --backend %s shows who is there\n", name, wishedState(w.state), name)
	}
	switch {
	case w.width > 0:
		line := fmt.Sprintf("%s after %s: %s", name, lasting(time.Since(begun)), text)
		fmt.Fprint(w.out, "\r\x1b[K"+ansi.Truncate(line, w.width-1, "…"))
	case first || text != w.told && time.Since(w.at) >= waitTell:
		fmt.Fprintln(w.out, name+": "+text)
		w.told, w.at = text, time.Now()
	}
}

// clear takes away the line that was drawn in place.
func (w *waiting) clear() {
	if w.width > 0 {
		fmt.Fprint(w.out, "\r\x1b[K")
	}
}

// givenUp says what stays when nobody waits any more.
func (w *waiting) givenUp(ctx context.Context, b *admin.Backend, waited time.Duration) error {
	how := "interrupted"
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		how = "not after " + lasting(waited)
	}
	if w.state == "ready" {
		return &hinted{fmt.Errorf("%s: %s is %s: %s", how, backendName(b), b.State, whyText(b)), "nothing else is wished of it: it becomes ready once its probe passes"}
	}
	return &hinted{
		fmt.Errorf("%s: %s stays %s, with %s left", how, backendName(b), wishedState(w.state), sessionsText(b.Sessions)),
		fmt.Sprintf("snicket %s %s --wait waits again, snicket ready %s takes it back", w.state, backendName(b), backendName(b)),
	}
}

// wishedState is the state of a backend of which a wish is made.
func wishedState(wish string) string {
	if wish == "drain" {
		return "draining"
	}
	return wish
}
