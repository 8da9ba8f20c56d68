//go:build !long

package proxy_test

import "time"

// How much TestRandomSessions does: so many sessions at once, in so many processes
// on either side, each of which must be over within randomPatience.
const (
	randomSessions  = 400
	randomProcesses = 1
	randomPatience  = 2 * time.Minute
)
