package admin

import (
	"fmt"
	"log/slog"
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// peer is the process at the other end of a Unix socket, as the kernel names it.
type peer struct {
	uid, gid uint32
	pid      int32
	known    bool
}

// peerOf asks the kernel (SO_PEERCRED, unix(7)).
func peerOf(c *net.UnixConn) peer {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{}
	}
	var p peer
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p = peer{cred.Uid, cred.Gid, cred.Pid, true}
		}
	})
	return p
}

// name is the user's name, or number where it has none.
func (p peer) name() string {
	if !p.known {
		return "somebody"
	}
	if u, err := user.LookupId(strconv.Itoa(int(p.uid))); err == nil {
		return u.Username
	}
	return fmt.Sprintf("uid %d", p.uid)
}

// attrs are the peer for the log.
func (p peer) attrs() []slog.Attr {
	return []slog.Attr{
		slog.String("by", p.name()), slog.Uint64("uid", uint64(p.uid)), slog.Uint64("gid", uint64(p.gid)), slog.Int("pid", int(p.pid)),
	}
}
