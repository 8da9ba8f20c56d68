//go:build race

package balancer_test

// raceEnabled: the race detector allocates, so allocations cannot be pinned.
const raceEnabled = true
