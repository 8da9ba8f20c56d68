package proxy

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/loop"
)

// sourceTurn takes the source addresses of pools in turn; each loop has its own.
type sourceTurn struct{ n int }

// bind binds fd to the next source address of the pool that fits. The port is
// chosen at connect, so that it counts for each destination by itself.
func (t *sourceTurn) bind(p *Pool, to *loop.Address, fd int) error {
	t.n++
	src, ok := p.source(t.n, to.Family() == unix.AF_INET)
	if !ok {
		return nil
	}
	loop.SetInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if errno := loop.TCPAddress(netip.AddrPortFrom(src, 0), 0).Bind(fd); errno != 0 {
		return &dialError{"bind " + src.String(), errno}
	}
	return nil
}

// source is the source address of the pool whose turn is the n-th, or the next that
// fits the family; false: none does.
func (p *Pool) source(n int, four bool) (netip.Addr, bool) {
	for i := range p.Sources {
		if src := p.Sources[(n+i)%len(p.Sources)]; src.Is4() == four {
			return src, true
		}
	}
	return netip.Addr{}, false
}
