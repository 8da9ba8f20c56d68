package server

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// descriptorReserve is how many descriptors are kept for all but sessions: 96 of
// pipes, 256 of probes, 64 of the admin API, listeners, epoll, logs, names being resolved.
const descriptorReserve = 512

// raiseDescriptors raises the soft limit of descriptors to the hard one and returns
// what it is then.
func raiseDescriptors() (int, error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	if l.Cur < l.Max {
		raised := unix.Rlimit{Cur: l.Max, Max: l.Max}
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &raised); err == nil {
			l = raised
		}
	}
	return int(min(l.Cur, 1<<30)), nil
}

// sessionsFor is how many sessions, of two descriptors each, fit into the limit.
func sessionsFor(descriptors int) int {
	return max(1, (descriptors-descriptorReserve)/2)
}

// descriptorsFor is the limit into which that many sessions fit.
func descriptorsFor(sessions int) int { return 2*sessions + descriptorReserve }

// defaultMaxConnections is max_connections where the operator sets none.
const defaultMaxConnections = 100_000
