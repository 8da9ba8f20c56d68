package server

import (
	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/config"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// activated are the sockets that the service manager has passed (sd_listen_fds(3)), by
// the listeners they are for. They can be taken once.
func activated() map[string]proxy.Inherited {
	all := map[string]proxy.Inherited{}
	for _, f := range activation.Files(true) {
		address := config.ListenAddress{Systemd: f.Name()}.String()
		if fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0); err == nil {
			all[address] = proxy.Inherited{Sockets: append(all[address].Sockets, fd), Kept: true}
		}
		f.Close()
	}
	return all
}
