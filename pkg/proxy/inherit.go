package proxy

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

// Inherited are listening sockets that others have made.
type Inherited struct {
	Sockets []int
	// Kept says that they stay open for as long as the proxy runs, whether a listener
	// wants them or not: they cannot be had again.
	Kept bool
}

var (
	errNoneInherited = errors.New("the service manager has passed no socket of that name")
	errNotListening  = errors.New("what was passed is no stream socket that listens")
)

// Sockets are those that are listened on, and those that are Kept, as another process is
// to inherit them. The descriptors stay the proxy's, until the next Commit, Leave or the
// end.
func (p *Proxy) Sockets() map[string]Inherited {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := maps.Clone(p.inherited)
	if all == nil {
		all = map[string]Inherited{}
	}
	for text, s := range p.sockets {
		if _, kept := all[text]; !kept {
			all[text] = Inherited{Sockets: slices.Clone(s.fds)}
		}
	}
	return all
}

// inherit makes the sockets of l of those that others have made for it; nil: there are
// none, and it has to bind. Descriptors are copies: until the commit all stays as it is.
func (p *Proxy) inherit(l *Listener) (*sockets, error) {
	p.mu.Lock()
	given := p.inherited[l.Text]
	p.mu.Unlock()
	switch {
	case given.Sockets != nil:
	case l.Address == nil:
		return nil, errNoneInherited
	default:
		return nil, nil
	}
	s := &sockets{address: l.Text, shared: l.Address == nil || l.Address.Unix() || len(given.Sockets) != p.o.Loops}
	for _, fd := range given.Sockets {
		if listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listening == 0 {
			s.close()
			return nil, errNotListening
		}
		own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			s.close()
			return nil, fmt.Errorf("dup: %w", err)
		}
		s.fds = append(s.fds, own)
		_ = unix.SetNonblock(own, true) // fails for no socket
		loop.SetInt(own, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if !s.local.IsValid() {
			s.local = loop.LocalAddr(own)
		}
	}
	return s, nil
}

// settleInheritanceLocked gives up what nobody will ask for again, once a State is in
// force: a listener that comes later binds for itself. The caller holds mu.
func (p *Proxy) settleInheritanceLocked() {
	for text, given := range p.inherited {
		if given.Kept {
			continue
		}
		for _, fd := range given.Sockets {
			loop.Close(fd)
		}
		delete(p.inherited, text)
		if s := p.sockets[text]; s != nil && s.listener.Load().Address != nil {
			s.path = s.listener.Load().Address.Path()
		}
	}
}

// disinherit closes what was never taken over.
func (p *Proxy) disinherit() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, given := range p.inherited {
		for _, fd := range given.Sockets {
			loop.Close(fd)
		}
	}
	p.inherited = nil
}
