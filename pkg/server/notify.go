package server

import (
	"fmt"
	"log/slog"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// What the service manager is told, if it is one that wants to know (sd_notify(3)).
// Without NOTIFY_SOCKET nothing happens.
const (
	notifyReady    = daemon.SdNotifyReady
	notifyStopping = daemon.SdNotifyStopping
)

// notify tells the service manager.
func (s *Server) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		s.log.Warn("the service manager cannot be told", slog.String("state", state), slog.Any("error", err))
	}
}

// notifyReloading tells that a reload has begun, and when: notifyReady ends it.
func (s *Server) notifyReloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		s.notify(daemon.SdNotifyReloading)
		return
	}
	s.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
}
