package certs

import (
	"crypto/tls"
	"sync/atomic"
)

// LiveECH is an [ECH] that can be replaced while it is asked. It is safe for concurrent
// use.
type LiveECH struct{ now atomic.Pointer[ECH] }

// NewLiveECH returns a LiveECH that goes by e until [LiveECH.Swap].
func NewLiveECH(e *ECH) *LiveECH {
	l := new(LiveECH)
	l.now.Store(e)
	return l
}

// Swap puts e into force, for all hellos that come from now on.
func (l *LiveECH) Swap(e *ECH) { l.now.Store(e) }

// Keys is [ECH.Keys] of what is in force.
func (l *LiveECH) Keys(outer string) []tls.EncryptedClientHelloKey { return l.now.Load().Keys(outer) }
