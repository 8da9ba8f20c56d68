// Package certs loads certificates, checks them and chooses one by server name.
//
// [Load] reads a chain and its key from files; [Certificate.Check] says what is
// wrong with it at a given time, in words for an operator. A [Set] finds them by name,
// a [Store] answers from a route's sets which one a hello gets, and a [Live] is a store
// that can be replaced while it is asked. [Tickets] are the keys by which sessions
// resume, [ECH] those that open hellos within hellos. An [Authority] issues certificates
// for demonstrations and tests.
//
// The package never falls back to a certificate for another name unless told
// so, and never goes to the network: a missing intermediate is reported, not
// fetched.
package certs

import "crypto/tls"

// Certificate is a chain with its private key. It is immutable.
type Certificate struct {
	tls.Certificate // with Leaf set

	// File is where the chain was read from, KeyFile where the key was; both
	// are empty for an issued one.
	File, KeyFile string
}

// Problem is one thing that is wrong with a file.
type Problem struct {
	// File is the file at fault.
	File string
	// Warning says that the file can be used nevertheless.
	Warning bool
	// Text says what is wrong, Hint what to do about it; Hint may be empty.
	Text, Hint string
}

// String returns the problem as one line, "FILE: TEXT: HINT".
func (p Problem) String() string {
	s := p.Text
	if p.File != "" {
		s = p.File + ": " + s
	}
	if p.Hint != "" {
		s += ": " + p.Hint
	}
	return s
}
