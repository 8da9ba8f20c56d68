//go:build race

package main

// raceEnabled is whether the race detector watches.
const raceEnabled = true
