// Package certs loads certificates, checks them and chooses one by server name.
//
// [Load], or a [Loader] for many of them, reads a chain and its key from files;
// [Certificate.Check] says what is wrong with it at a given time, in words for an
// operator. A [Set] finds them by name, a [Store] answers from a route's sets which one
// a hello gets, and a [Live] is a store that can be replaced while it is asked.
// [Tickets] are the keys by which sessions resume, [ECH] those that open hellos within
// hellos. An [Authority] issues certificates for demonstrations and tests.
//
// The package never falls back to a certificate for another name unless told
// so, and never goes to the network: a missing intermediate is reported, not
// fetched.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
)

// Certificate is a chain with its private key. It is immutable.
type Certificate struct {
	// Certificate is what crypto/tls serves. Its Leaf is nil, but for an issued one: a
	// server has no use for it, and it would be half of what a certificate takes in
	// memory. The Facts tell what is asked for.
	tls.Certificate
	Facts

	// File is where the chain was read from, KeyFile where the key was; both
	// are empty for one that is from no file.
	File, KeyFile string

	authorities []*x509.Certificate // the chain but for the first; shared, nil if not parsed
}

// New makes a Certificate of what crypto/tls serves, such as one that was obtained by
// ACME. c must not be changed afterwards. The error says that the chain is empty or its
// first certificate cannot be parsed.
func New(c tls.Certificate) (*Certificate, error) {
	leaf, err := parseLeaf(c.Certificate)
	if err != nil {
		return nil, err
	}
	c.Leaf = nil
	return &Certificate{Certificate: c, Facts: factsOf(leaf)}, nil
}

func parseLeaf(chain [][]byte) (*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, fmt.Errorf("holds no certificate")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return nil, fmt.Errorf("certificate 1 cannot be parsed: %w", err)
	}
	return leaf, nil
}

// Problem is one thing that is wrong with a file.
type Problem struct {
	// File is the file at fault.
	File string
	// Warning says that the file can be used nevertheless.
	Warning bool
	// Text says what is wrong, Hint what to do about it; Hint may be empty.
	Text, Hint string
	// OfIssuer says that all certificates of the issuer have the problem, and that Text
	// and Hint speak of the issuer alone.
	OfIssuer bool
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
