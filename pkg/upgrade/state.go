package upgrade

import (
	"net/netip"
	"time"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/discover"
	"github.com/snicketlb/snicket/pkg/registry"
)

// State is what the old process knows of backends and the new one goes on with, as far as
// its configuration has them still.
type State struct {
	Statuses  []registry.Status // probes, ejections, operators' wishes
	Checks    []Check
	Ejections []health.EjectionState
	Ramps     []Ramp
	// Tickets is the secret of session tickets, if the process has drawn it.
	Tickets []byte
	// Names are the last good addresses of host names, Found the last good sets of sources:
	// the new process may ask just when nobody answers.
	Names map[string][]netip.Addr
	Found []Found
}

// Found is what a source has said of a pool's backends.
type Found struct {
	Pool     string
	Asked    discover.Settings
	Backends []discover.Backend
}

// Check is how far a target is on its way up or down.
type Check struct {
	ID               string // the checker's
	State            health.State
	Since            time.Time
	Why              string // it is down; empty: it is not
	Passes, Failures int
	ALPN             string
	Agent            health.AgentReport
}

// Ramp is a slow start.
type Ramp struct {
	Pool, ID string
	Since    time.Time // when it began
}
