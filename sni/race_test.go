//go:build race

package sni_test

// raceEnabled says that allocations cannot be counted.
const raceEnabled = true
