//go:build race

package proxy_test

// raced says that the race detector is on: it allocates, so pins of allocations
// say nothing.
const raced = true
