package upgrade

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/snicketlb/snicket/pkg/proxy"
)

// Protocol is the number of what is said here. A process that speaks another one is
// refused; fields may be added without a new number, as gob passes over what is unknown.
const Protocol = 2

// Kind says what a message is. In order: the new process greets, is given sockets, and
// says that it is able, having touched nothing. Then the old one stands still, and sends
// its sessions and what it knows; the new one says how many have come; the old one says
// go, and has them no longer. Until that word all can go back. The new one, once it serves,
// says that it does, and is told when it is the main process. If it ends between these two
// the old one has listeners still, and sessions that nobody can go on with.
type Kind uint8

// The kinds.
const (
	greeting Kind = iota + 1 // new to old
	sockets                  // old to new, more than one
	able                     // new to old
	sessions                 // old to new, more than one
	all                      // old to new
	have                     // new to old
	goAhead                  // old to new
	serving                  // new to old
	main                     // old to new
	refusal                  // either way, instead of any other
)

// String is the kind's word.
func (k Kind) String() string {
	words := [...]string{
		greeting: "greeting", sockets: "sockets", able: "able", sessions: "sessions", all: "all",
		have: "have", goAhead: "go", serving: "serving", main: "main", refusal: "refusal",
	}
	if k == 0 || int(k) >= len(words) {
		return fmt.Sprintf("message %d", uint8(k))
	}
	return words[k]
}

// Greeting is the first word of the new process.
type Greeting struct {
	Protocol int
	PID      int
	Version  string
}

// Sockets are listening sockets of one address; as many as it says come with it.
type Sockets struct {
	For    Use
	Text   string // the address, as the configuration has it
	Count  int
	Kept   bool   // as of proxy.Inherited
	Inode  uint64 // of the file of an admin socket
	Device uint64
	Last   bool // none follow
}

// Use is what sockets are for.
type Use uint8

// The uses.
const (
	ForNothing  Use = iota // a message that only ends the row
	ForListener            // of the data plane
	ForAdminSocket
	ForAdminAddress
)

// Have says how many sessions there are.
type Have struct{ Sessions int }

// Refusal is why one side will not go on.
type Refusal struct{ Problems []string }

// Error is the problems in one line.
func (r *Refusal) Error() string { return strings.Join(r.Problems, "; ") }

// nothing is a message without a content. gob wants a field.
type nothing struct{ Version int }

// Refuse tells the other side why there is no going on. It may be gone.
func (c *Conn) Refuse(problems ...string) {
	_ = c.send(refusal, &Refusal{problems}, nil)
}

// Greet is the first word.
func (c *Conn) Greet(g *Greeting) error { return c.send(greeting, g, nil) }

// Greeting waits for the first word, of a process that may have much to read before.
func (c *Conn) Greeting(within time.Duration) (g Greeting, err error) {
	if _, err = c.receive(greeting, &g, within); err != nil {
		return g, err
	}
	if g.Protocol != Protocol {
		err = fmt.Errorf("version %s speaks upgrade protocol %d, this one %d", g.Version, g.Protocol, Protocol)
	}
	return g, err
}

// SendSockets sends the sockets of one address.
func (c *Conn) SendSockets(s Sockets, fds []int) error {
	for len(fds) > 0 {
		n := min(len(fds), mostFiles)
		s.Count = n
		if err := c.send(sockets, &s, fds[:n]); err != nil {
			return err
		}
		fds = fds[n:]
	}
	return nil
}

// SendNoMoreSockets ends the row.
func (c *Conn) SendNoMoreSockets() error {
	return c.send(sockets, &Sockets{Last: true}, nil)
}

// Sockets receives the next sockets, which are the caller's.
func (c *Conn) Sockets() (s Sockets, fds []int, err error) {
	fds, err = c.receive(sockets, &s, patience)
	return s, fds, err
}

// SendAble says that the configuration can be served with these sockets.
func (c *Conn) SendAble() error { return c.send(able, &nothing{Protocol}, nil) }

// Able waits for that.
func (c *Conn) Able(within time.Duration) error {
	_, err := c.receive(able, &nothing{}, within)
	return err
}

// All is what goes with the sessions, behind the last of them.
type All struct {
	Heritage proxy.Heritage
	State    State
}

// batch is how many sessions travel together at most; each has six descriptors at most,
// and two as a rule.
const batch = 100

// SendSessions sends sessions that stand still, and what goes with them.
func (c *Conn) SendSessions(list []proxy.Transfer, with *All) error {
	for from := 0; from < len(list); {
		var fds []int
		to := from
		for ; to < len(list) && to-from < batch; to++ {
			own := fds
			list[to].Descriptors(func(fd *int) { own = append(own, *fd) })
			if len(own) > mostFiles {
				break
			}
			fds = own
		}
		if err := c.send(sessions, list[from:to], fds); err != nil {
			return err
		}
		from = to
	}
	return c.send(all, with, nil)
}

// Sessions receives n sessions, the first of which may be a while in coming, and what
// goes with them. On an error none is left open.
func (c *Conn) Sessions(patience time.Duration) (list []proxy.Transfer, with All, err error) {
	defer func() {
		if err != nil {
			proxy.CloseAll(list)
			list = nil
		}
	}()
	var n Have
	if _, err = c.receive(have, &n, patience); err != nil {
		return nil, with, err
	}
	for len(list) < n.Sessions {
		var part []proxy.Transfer
		fds, err := c.receive(sessions, &part, Silence)
		if err != nil {
			return list, with, err
		}
		for i := range part {
			part[i].Descriptors(func(fd *int) {
				if *fd = -1; len(fds) > 0 {
					*fd, fds = fds[0], fds[1:]
				}
			})
		}
		closeAll(fds) // none, of a process that counts as this one does
		list = append(list, part...)
	}
	_, err = c.receive(all, &with, Silence)
	return list, with, err
}

// SendHave says how many sessions there are: before they are sent, and once they have
// come.
func (c *Conn) SendHave(n int) error { return c.send(have, &Have{n}, nil) }

// Have waits for the other side's number.
func (c *Conn) Have() (int, error) {
	var n Have
	_, err := c.receive(have, &n, Silence)
	return n.Sessions, err
}

// SendGo gives all that was sent away, for good.
func (c *Conn) SendGo() error { return c.send(goAhead, &nothing{Protocol}, nil) }

// Go waits for that. When it returns an error the old process has not said it, and cannot
// any more: what is sent behind the last look fails there.
func (c *Conn) Go(within time.Duration) error {
	_, err := c.receive(goAhead, &nothing{}, within)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	if closed := c.c.CloseRead(); closed != nil {
		return errors.Join(err, closed)
	}
	if _, last := c.receive(goAhead, &nothing{}, within); last == nil {
		return nil
	}
	return err
}

// SendServing says that all sessions go on.
func (c *Conn) SendServing() error { return c.send(serving, &nothing{Protocol}, nil) }

// Serving waits for that.
func (c *Conn) Serving(within time.Duration) error {
	_, err := c.receive(serving, &nothing{}, within)
	return err
}

// SendMain says that the service manager knows of its new main process.
func (c *Conn) SendMain() error { return c.send(main, &nothing{Protocol}, nil) }

// Main waits for that.
func (c *Conn) Main() error {
	_, err := c.receive(main, &nothing{}, 2*Silence)
	return err
}
