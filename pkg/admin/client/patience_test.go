package client

import (
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// TestMute: who accepts and says nothing is given up, and told apart from nobody.
func TestMute(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	mute, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(path, 10*time.Millisecond)
	defer c.Close()
	_, err = c.Status(t.Context())
	if _, ok := errors.AsType[*UnreachableError](err); !ok || !errors.Is(err, ErrNoAnswer) {
		t.Errorf("got %v, want an unreachable balancer by %v", err, ErrNoAnswer)
	}
	mute.Close()
	if _, err = c.Status(t.Context()); err == nil || errors.Is(err, ErrNoAnswer) {
		t.Errorf("got %v, want an error other than %v", err, ErrNoAnswer)
	}
}
