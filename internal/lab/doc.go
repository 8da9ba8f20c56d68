// Package lab is the laboratory of the module's tests: real servers that behave well or badly on purpose, processes
// started and stopped by their id, network namespaces that swallow packets, certificates, and a check that a test
// left no goroutine and no descriptor behind.
//
// Start with [Serve], which runs a [Handler] ([Echo], [Mute], [ResetAfter], [AnswerAfterEnd], [Slow], [Flood],
// [Announce]) on a free loopback port, plain or under TLS; with [Start], which runs a program and waits for lines of
// its output; and with [Leaks], the first line of every test of the data plane.
//
// Nothing here fakes the kernel, a protocol or time: a server is a socket, a process is a process. Everything is
// undone by t.Cleanup, in reverse order. Waiting is for an event, bounded by [Patience]; running out of it fails the
// test with what was seen so far.
//
// The load program, internal/lab/load, is for runs that need more descriptors than one process may have.
package lab

import "time"

// Patience is how long the laboratory waits for an event before it calls the test failed. It is a ceiling against
// hanging, far above what anything here takes, never a measurement.
const Patience = 30 * time.Second
