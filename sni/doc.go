// Package sni reads the first message a TLS client sends, its ClientHello,
// and finds what belongs to the server name in it. It is what a balancer needs
// to route a TLS connection without ending it, and imports nothing but the
// standard library.
//
// Start with [Parser]: give it everything received so far, after every read,
// until it stops answering [ErrMore]. [Parse] does the same in one call. A
// [Hello] is what the client said; [Map] finds the value of the most specific
// pattern for its server name; [AppendAlert] tells a client why it is refused.
//
//	var p sni.Parser
//	for {
//		n, err := conn.Read(buf[len(buf):cap(buf)])
//		buf = buf[:len(buf)+n]
//		hello, perr := p.Parse(buf)
//		…
//	}
//
// # What is promised
//
// The parser is pure: no reads, no clocks, no logs. Every strict prefix of a
// hello it accepts answers ErrMore and never another error. How the hello is
// split, into TLS records or into reads, changes nothing but [Hello.Len]. The
// work is linear in the bytes received, also when they come one at a time.
//
// # What is refused
//
// A balancer that guesses at a broken hello can be led to send it where another
// reader of the same bytes would not. So whatever two readers could understand
// differently is an error, each with its own sentinel: lengths that disagree,
// extensions that come twice, a second name, names that are no DNS names, other
// records between those of the hello, empty records, and handshake bytes behind
// the hello in its last record. The package does not judge what a server will
// make of a readable hello: unknown versions, suites, groups and extensions, and
// the GREASE values of RFC 8701, pass.
//
// It does not decrypt: with Encrypted ClientHello the outer name is what it sees.
package sni
