//go:build long

package proxy_test

import "time"

// A process has 20,000 descriptors, and under the race detector 8,128 goroutines,
// of which a session takes two on either side.
const (
	randomSessions  = 8000
	randomProcesses = 4
	randomPatience  = 20 * time.Minute
)
