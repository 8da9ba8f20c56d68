//go:build race

package certs_test

// raceEnabled says whether the race detector, which allocates, is on.
const raceEnabled = true
