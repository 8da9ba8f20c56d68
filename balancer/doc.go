// Package balancer chooses one backend of a pool for each new session and
// counts the sessions each backend has.
//
// Start at [Pool]: [New] makes one, [Pool.Update] says which backends it has,
// [Pool.Acquire] picks one and counts it, [Pool.Release] takes the count back.
// [Pool.Configure] sets the [Policy] and what else there is to choose.
//
// The default is weighted least connections: the backend with the fewest
// sessions per unit of weight. Backends that tie take turns, as often as their
// weights say, so a pool that is mostly idle shares its sessions in the same
// proportion as a busy one.
//
// A session is counted when it is acquired, before anything is dialled: a burst
// of new sessions spreads over the pool although none of them is connected yet.
//
// # Who may be picked
//
// A backend is given new sessions while it bears no mark (see [State]) and has
// a weight, by [Spec] or [Pool.SetWeight], of which [Pool.SetShare] may take a
// part away. Only the lowest [Spec] tier with such a backend is picked from.
// [Options.PanicBelow] says when too few are ready to be trusted with all the
// sessions, so that all are tried. [Options.SlowStart] lets a backend that comes
// back begin small. [Spec] MaxConnections bounds a backend, and [Pool.Wait]
// queues the sessions that find all of them at their bounds. Under every policy a
// session is never given a backend that it has tried.
//
// # Concurrency
//
// The set of backends is an immutable snapshot behind an atomic pointer, and
// every counter is atomic, so Acquire and Release take no lock and allocate
// nothing, but while sessions wait in the queue. Least is exact as long as one
// goroutine acquires; when several do at the same instant they may all see the
// same least backend, and the counts level out with the next sessions. The
// limit of MaxConnections is exact at any number of goroutines.
//
// The package dials nothing, probes nothing, starts no goroutine and no timer,
// and never logs. Whether a backend is ready is for the caller to find out and
// to tell with [Pool.Mark].
package balancer
