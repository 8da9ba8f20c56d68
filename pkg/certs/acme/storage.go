package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/caddyserver/certmagic"

	"github.com/snicketlb/snicket/pkg/certs"
)

// storage is certmagic's directory, which tells in addition what is under way: an order
// holds a lock for as long as it lasts, and leaves its challenge for other instances
// while that is open.
type storage struct {
	certmagic.FileStorage
	open atomic.Int64 // challenges

	mu     sync.Mutex // guards the fields below
	tokens map[string]bool
	held   int           // locks
	idle   chan struct{} // nil: not closed; closed with the last lock
}

var errClosed = errors.New("closed")

func newStorage(dir string) *storage {
	return &storage{FileStorage: certmagic.FileStorage{Path: dir}, tokens: map[string]bool{}}
}

// tokens is where an issuer keeps its open challenges.
func tokens(issuer string) string {
	return path.Join("acme", certmagic.StorageKeys.Safe(issuer), "challenge_tokens")
}

func isToken(key string) bool { return strings.HasSuffix(path.Dir(key), "/challenge_tokens") }

// Store is that of FileStorage.
func (s *storage) Store(ctx context.Context, key string, value []byte) error {
	err := s.FileStorage.Store(ctx, key, value)
	if err == nil && isToken(key) {
		s.note(key, true)
	}
	return err
}

// Delete is that of FileStorage.
func (s *storage) Delete(ctx context.Context, key string) error {
	if isToken(key) {
		s.note(key, false)
	}
	return s.FileStorage.Delete(ctx, key)
}

func (s *storage) note(key string, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens[key] = true; !open {
		delete(s.tokens, key)
	}
	s.open.Store(int64(len(s.tokens)))
}

// Lock is that of FileStorage; a closed storage has no locks to give.
func (s *storage) Lock(ctx context.Context, key string) error {
	if s.isClosed() {
		return errClosed
	}
	if err := s.FileStorage.Lock(ctx, key); err != nil {
		return err
	}
	return s.hold(ctx, key)
}

// TryLock is that of FileStorage, as Lock is.
func (s *storage) TryLock(ctx context.Context, key string) (bool, error) {
	if s.isClosed() {
		return false, errClosed
	}
	if ok, err := s.FileStorage.TryLock(ctx, key); !ok || err != nil {
		return false, err
	}
	err := s.hold(ctx, key)
	return err == nil, err
}

// hold counts a lock that was given, and takes it back from a storage that was closed
// meanwhile.
func (s *storage) hold(ctx context.Context, key string) error {
	s.mu.Lock()
	closed := s.idle != nil
	if !closed {
		s.held++
	}
	s.mu.Unlock()
	if closed {
		return errors.Join(errClosed, s.FileStorage.Unlock(context.WithoutCancel(ctx), key))
	}
	return nil
}

// Unlock is that of FileStorage.
func (s *storage) Unlock(ctx context.Context, key string) error {
	err := s.FileStorage.Unlock(ctx, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held--; s.held == 0 && s.idle != nil {
		close(s.idle)
	}
	return err
}

// close gives out no more locks; the channel is closed once none is held.
func (s *storage) close() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.idle = make(chan struct{})
	if s.held == 0 {
		close(s.idle)
	}
	return s.idle
}

func (s *storage) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.idle != nil
}

// certificate is the one that an issuer has left for a host; nil if there is none that
// can be used.
func (s *storage) certificate(issuer, host string) *certs.Certificate {
	keys := certmagic.StorageKeys
	chain, err := s.Load(context.Background(), keys.SiteCert(issuer, host))
	if err != nil {
		return nil
	}
	key, err := s.Load(context.Background(), keys.SitePrivateKey(issuer, host))
	if err != nil {
		return nil
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil
	}
	c, err := certs.New(pair)
	if err != nil {
		return nil
	}
	return c
}
