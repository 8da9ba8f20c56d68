package terminate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/snicketlb/snicket/pkg/loop"
)

// A Waker is told on the loop that a handshake can go on, by another cause than
// an event of its socket.
type Waker interface {
	Wake()
}

// A Handshake is TLS being agreed on, as a coroutine of a loop. The caller steps
// it at first, when its socket is readable, and when told by its [Waker]; a step
// may take as long as the mathematics of a key exchange and a signature. It ends
// by itself or by Abort, never by being forgotten.
type Handshake struct {
	env     *Env
	conn    *Conn
	tls     *tls.Conn
	waker   Waker
	co      *loop.Coroutine
	with    string // the party, for errors
	alpn    string // the only protocol offered to a backend
	name    string // by which the session of a client was routed
	version uint16
	resumed bool
	shown   Shown
	early   tls.SignatureScheme // of shown, should it be TLS 1.2
	backend bool
	waits   bool // for what a goroutine does
	verdict Verdict
	over    bool
	err     error
}

// Accept begins the server's side of a handshake on conn, by a [ServerConfig]. name
// is the one in the hello, in the form of [sni.Hello]; a handshake for another one
// fails. What was agreed on is in the ConnectionState of the result.
func (e *Env) Accept(conn *Conn, cfg *tls.Config, name string, w Waker) *Handshake {
	return e.begin(&Handshake{conn: conn, tls: tls.Server(conn, cfg), name: name, waker: w, with: "client"})
}

func (e *Env) begin(h *Handshake) *Handshake {
	h.env = e
	h.conn.shake = h
	h.co = e.co.Start(h)
	return h
}

// Run is the coroutine.
func (h *Handshake) Run(*loop.Coroutine) { h.err = h.tls.Handshake() }

// Step goes on until more must come; it reports whether the handshake is over.
func (h *Handshake) Step() bool {
	if !h.over && h.env.co.Resume(h.co) {
		h.over, h.co, h.conn.shake = true, nil, nil
	}
	return h.over
}

// Waits reports whether no event of the socket can bring the handshake forward:
// its Waker will be told.
func (h *Handshake) Waits() bool { return h.waits }

// Abort ends the handshake with err, at once. Nothing can pass conn any more.
func (h *Handshake) Abort(err error) {
	if h.over {
		return
	}
	h.conn.failed = err
	h.Step() // nothing yields any more
}

// Result returns the connection of a handshake that is over, or its error. Without
// one Shown holds from then on.
//
// An error leaves conn open, and an alert may be on its way: its owner should
// send a FIN and read what still comes before closing. It wraps [ErrNoCertificate]
// if that was the cause. With TLS 1.3 a backend refuses a client certificate only
// after the handshake; [Relay] reports it.
func (h *Handshake) Result() (*tls.Conn, error) {
	err := h.err
	switch {
	case err != nil && h.conn.failed != nil:
		err = h.conn.failed // which crypto/tls does not always wrap
	case err != nil && h.conn.noCert:
		err = ErrNoCertificate
	case err != nil:
	default:
		state := h.tls.ConnectionState()
		h.version, h.resumed = state.Version, state.DidResume
		if !h.backend {
			err = h.checkName(state.ServerName)
			break
		}
		if got := state.NegotiatedProtocol; got != h.alpn && (got != "" || h.alpn != "http/1.1") {
			err = fmt.Errorf("ALPN %q selected, %q offered", got, h.alpn)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("handshake with the %s: %w", h.with, err)
	}
	return h.tls, nil
}

// Verdict returns what is to be thought of the client of a handshake that has succeeded.
// A resumed session is judged anew, by the certificate that it was begun with.
func (h *Handshake) Verdict() Verdict { return h.verdict }

// checkName reports that a hello was for another name than the session is.
func (h *Handshake) checkName(name string) error {
	if len(name) == len(h.name) && strings.EqualFold(name, h.name) { // as no letter folds to another of its length
		return nil
	}
	return fmt.Errorf("hello for %q in a session for %q", name, h.name)
}

// aside has work done by a goroutine, if the loop has any, and yields until it is done.
// An error is that by which the handshake was ended meanwhile: what comes of the work is
// nobody's then.
func (h *Handshake) aside(work func()) error {
	if h.env.offload == nil {
		work()
		return nil
	}
	h.waits = true
	h.env.offload(work, func() {
		h.waits = false
		if !h.over {
			h.waker.Wake()
		}
	})
	for h.waits {
		if h.conn.failed != nil {
			return h.conn.failed
		}
		h.co.Yield()
	}
	return nil
}

// sign has a signature made aside.
func (h *Handshake) sign(work func() ([]byte, error)) ([]byte, error) {
	var sig []byte
	var err error
	if ended := h.aside(func() { sig, err = work() }); ended != nil {
		return nil, ended
	}
	return sig, err
}

// A slowKey is a private key whose signatures take too long for a loop.
type slowKey struct {
	key  crypto.Signer
	conn *Conn
}

// Public is the key's public half.
func (k *slowKey) Public() crypto.PublicKey { return k.key.Public() }

// Sign has the key sign off the loop while a handshake runs there.
func (k *slowKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sign := func() ([]byte, error) { return k.key.Sign(rand, digest, opts) }
	if k.conn.shake == nil {
		return sign()
	}
	k.conn.shake.shown.Scheme = schemeOf(k.key.Public(), opts)
	return k.conn.shake.sign(sign)
}

// keyFor returns cert with a key for use on conn. ECDSA on P-256 and Ed25519 sign
// in tens of microseconds; RSA takes a millisecond, the larger curves much of one.
func keyFor(cert *tls.Certificate, conn *Conn) *tls.Certificate {
	switch key := cert.PrivateKey.(type) {
	case ed25519.PrivateKey:
		return cert
	case *ecdsa.PrivateKey:
		if key.Curve == elliptic.P256() {
			return cert
		}
	}
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return cert
	}
	slow := *cert
	slow.PrivateKey = &slowKey{key: key, conn: conn}
	return &slow
}

// ErrNoCertificate is wrapped by the error of a [Handshake] if no certificate
// covers the name in the hello. The client has been sent the alert
// unrecognized_name.
var ErrNoCertificate = errors.New("no certificate covers the server name")
