// Package balancer chooses one backend of a pool for each new session and
// counts the sessions each backend has.
//
// Start at [Pool]: [New] makes one, [Pool.Update] says which backends it has,
// [Pool.Acquire] picks one and counts it, [Pool.Release] takes the count back.
// The choice is weighted least connections: the backend with the fewest
// sessions per unit of weight. Backends that tie take turns, as often as their
// weights say, so a pool that is mostly idle shares its sessions in the same
// proportion as a busy one.
//
// A session is counted when it is acquired, before anything is dialled: a burst
// of new sessions spreads over the pool although none of them is connected yet.
//
// The set of backends is an immutable snapshot behind an atomic pointer, and
// every counter is atomic, so Acquire and Release take no lock and allocate
// nothing. Least is exact as long as one goroutine acquires; when several do at
// the same instant they may all see the same least backend, and the counts
// level out with the next sessions. The limit of [Spec.MaxConnections] is exact
// at any number of goroutines.
//
// The package dials nothing, probes nothing, waits for nothing and never logs.
// Whether a backend is ready is for the caller to find out and to tell with
// [Pool.SetState].
package balancer
