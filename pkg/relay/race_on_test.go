//go:build race

package relay_test

// raceEnabled says that allocations are not the program's own.
const raceEnabled = true
