package certs

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// Tickets says which keys encrypt session tickets, and when (RFC 5077 §4, RFC 8446
// §4.6.1). Time is cut into epochs of equal length, counted from 1970, and each has
// its key, derived from one secret: so processes that share the secret resume each
// other's sessions, and one that restarts resumes its own, without a word between
// them. A ticket is accepted in its epoch and the one after it. It is also accepted
// in the one before, for the sake of a fleet whose clocks differ.
//
// A Tickets is immutable and safe for concurrent use. It holds secrets: who reads
// them can read the sessions of TLS 1.2 that were resumed with its tickets, as there
// no new key is agreed on, and can pass for a client with its certificate.
type Tickets struct {
	source
	random bool // made here, shared with nobody
	former []formerSource
}

// source makes keys: one for each epoch and policy.
type source struct {
	secret []byte // as HKDF-Extract returns it
	every  time.Duration
}

// formerSource made keys before; what it encrypted then is accepted still.
type formerSource struct {
	source
	until time.Time
}

// keepFormer bounds the former sources: each costs a client with a ticket that no
// key fits two computations of an HMAC.
const keepFormer = 3

// NewTickets begins with a secret and the length of an epoch, which must be
// positive. A nil secret stands for a random one, that ends with the process.
func NewTickets(secret []byte, every time.Duration) *Tickets {
	t := &Tickets{source: source{every: every}, random: secret == nil}
	if t.random {
		secret = make([]byte, sha256.Size)
		_, _ = rand.Read(secret) // never fails
	}
	t.secret = extract(secret)
	return t
}

// Succeed returns what follows t when the secret or the length of an epoch changes at
// the time now: tickets from before are accepted as long as they would have been
// without the change. A nil secret keeps a random one that t may have. Without a
// change it returns t.
func (t *Tickets) Succeed(secret []byte, every time.Duration, now time.Time) *Tickets {
	next := NewTickets(secret, every)
	if t.random && next.random {
		next.secret = t.secret
	}
	if bytes.Equal(next.secret, t.secret) && next.every == t.every {
		return t
	}
	until := t.starts(t.epoch(now) + 2)
	next.former = append(next.former, formerSource{t.source, until})
	for _, f := range t.former {
		if f.until.After(now) && len(next.former) < keepFormer {
			next.former = append(next.former, f)
		}
	}
	return next
}

// Drawn returns the secret, if it was drawn here, for a process that goes on in this
// one's place; else nil. See Continue.
func (t *Tickets) Drawn() []byte {
	if !t.random {
		return nil
	}
	return slices.Clone(t.secret)
}

// Continue returns what follows t in a process that goes on in another's place, which had
// drawn a secret: what clients were given by that one is accepted. It returns t if that
// has a secret of its owner's.
func (t *Tickets) Continue(drawn []byte) *Tickets {
	if !t.random || len(drawn) != sha256.Size {
		return t
	}
	return &Tickets{source: source{secret: slices.Clone(drawn), every: t.every}, random: true}
}

// extract is the first half of HKDF (RFC 5869 §2.2). It needs no salt, as the secret is
// uniform.
func extract(secret []byte) []byte {
	prk, err := hkdf.Extract(sha256.New, secret, nil)
	if err != nil {
		panic(fmt.Sprintf("certs: HKDF-Extract: %v", err)) // of keys FIPS 140 finds too short, and ours are not
	}
	return prk
}

// Keys returns the keys for tickets of one policy at the time now, as
// [crypto/tls.Config.SetSessionTicketKeys] takes them: the first encrypts, all
// decrypt.
func (t *Tickets) Keys(p TicketPolicy, now time.Time) [][32]byte {
	e := t.epoch(now)
	keys := [][32]byte{t.key(e, p), t.key(e-1, p), t.key(e+1, p)}
	for _, f := range t.former {
		if f.until.After(now) {
			e := f.epoch(now)
			keys = append(keys, f.key(e, p), f.key(e-1, p))
		}
	}
	return keys
}

// Until returns when the keys of the time now cease to be those that Keys returns. If
// it is the same at two times, so are the keys.
func (t *Tickets) Until(now time.Time) time.Time {
	until := t.starts(t.epoch(now) + 1)
	for _, f := range t.former {
		if next := f.starts(f.epoch(now) + 1); f.until.After(now) && next.Before(until) {
			until = next
		}
	}
	return until
}

// epoch is the number of the epoch that holds now.
func (s *source) epoch(now time.Time) int64 {
	n, every := now.UnixNano(), int64(s.every)
	if n < 0 { // a clock before 1970
		n -= every - 1
	}
	return n / every
}

// starts is when an epoch begins.
func (s *source) starts(epoch int64) time.Time { return time.Unix(0, epoch*int64(s.every)) }

// key is the second half of HKDF (RFC 5869 §2.3). The length of an epoch is part of
// what the key is for, so that epochs of different lengths that bear the same number
// have different keys.
func (s *source) key(epoch int64, p TicketPolicy) (key [32]byte) {
	info := []byte("snicket session ticket 1\x00")
	info = binary.BigEndian.AppendUint64(info, uint64(s.every))
	info = binary.BigEndian.AppendUint64(info, uint64(epoch))
	info = append(info, p[:]...)
	b, err := hkdf.Expand(sha256.New, s.secret, string(info), len(key))
	if err != nil {
		panic(fmt.Sprintf("certs: HKDF-Expand: %v", err)) // of lengths above 255 hashes
	}
	copy(key[:], b)
	return key
}

// A TicketPolicy is what a client had to show before it was given a ticket. A ticket
// is accepted under the same policy alone: a session resumed shows no certificate.
type TicketPolicy [sha256.Size]byte

// NewTicketPolicy is the policy of a route with these demands on its clients, in any
// form that differs when they do. Processes that are to resume each other's sessions
// must name both alike.
func NewTicketPolicy(route string, demands ...[]byte) TicketPolicy {
	h := sha256.New()
	for _, part := range slices.Insert(slices.Clone(demands), 0, []byte(route)) {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // never fails
		_, _ = h.Write(part)
	}
	return TicketPolicy(h.Sum(nil))
}
