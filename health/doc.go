// Package health finds out whether backends can serve, by probing them and by
// being told of failures that real sessions met.
//
// Start at [Checker]: [NewChecker] makes one, [Checker.Update] says what to
// probe, [Checker.Run] probes until its context ends and reports each
// [Transition]. What one attempt does is a [Prober]; [TCP], [TLS], [HTTP],
// [Exchange] (with a [Preset] for some protocols) and [Agent] are the ones of this
// package, and each can be used by itself.
//
// A target is unknown until its first probe has a result, and callers treat
// unknown as up: at a start nothing is refused because nothing was asked yet.
// The first result decides at once. From then on Rise passes in a row bring a
// target up, and Fall failures in a row, be they of probes or of sessions
// ([Checker.Failed]), take it down.
//
// A probe that fails for want of something on this side, such as descriptors,
// ports or permission, says nothing about the backend: it is kept as the last
// error and counts neither way.
//
// An [Ejector] takes backends out of use for a time because of what sessions met.
// [Certificate] and [Coalescing] judge the certificates that probes saw.
//
// The package balances nothing, keeps nothing on disk and never logs: a
// transition carries the reason in words fit for an operator.
package health
