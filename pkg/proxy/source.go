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
	four := to.Family() == unix.AF_INET
	for range p.Sources {
		t.n++
		src := p.Sources[t.n%len(p.Sources)]
		if src.Is4() != four {
			continue
		}
		loop.SetInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if errno := loop.TCPAddress(netip.AddrPortFrom(src, 0), 0).Bind(fd); errno != 0 {
			return &dialError{"bind " + src.String(), errno}
		}
		return nil
	}
	return nil
}
