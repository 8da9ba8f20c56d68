// Package terminate ends the TLS of a client with crypto/tls and passes its
// bytes on, in plain text or in fresh TLS, on an event loop: no session has a
// goroutine, and none that is idle a buffer beyond what crypto/tls keeps.
//
// The life of a session: [NewConn] takes a socket and the bytes already peeked,
// [Env.Accept] begins the handshake with the client by a [ServerConfig], the
// caller picks and dials a backend, [Backend.Connect] begins the one with it if
// need be, and a [Relay] carries bytes both ways until both have ended. All of
// these go on by steps: the caller tells each Conn of its socket's events and
// calls Step or Pump; nothing here blocks or waits.
//
// A handshake is written by crypto/tls as code that blocks. Here it runs as a
// coroutine ([loop.Coroutine]), and reading what has not come yet gives the
// thread back to the loop. After it crypto/tls needs none: a Read that ends in a
// temporary error is taken up by the next.
//
// What the package is for is told by Relay: the end of one side reaches the
// other as what it was. An orderly end stays one and leaves the other direction
// open; a stream that was cut is never passed on as if it were whole.
//
// It knows nothing of routes, pools or logs.
package terminate
