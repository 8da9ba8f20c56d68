package acme

import (
	"context"
	"errors"
	"testing"
)

// TestStorageIsIdle holds that a closed storage is idle once every lock it has given is
// back, in whichever way it was given, and gives no more.
func TestStorageIsIdle(t *testing.T) {
	for _, tc := range []struct {
		name string
		lock func(*storage, context.Context, string) error
	}{
		{"lock", (*storage).Lock},
		{"try", func(s *storage, ctx context.Context, key string) error {
			ok, err := s.TryLock(ctx, key)
			if ok == (err != nil) {
				t.Errorf("got %t, %v; want one of a lock and an error", ok, err)
			}
			return err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, ctx := newStorage(t.TempDir()), t.Context()
			for _, key := range []string{"before", "during"} {
				if err := tc.lock(s, ctx, key); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Unlock(ctx, "before"); err != nil {
				t.Fatal(err)
			}
			idle := s.close()
			select {
			case <-idle:
				t.Error("it is idle while a lock is held")
			default:
			}
			if err := tc.lock(s, ctx, "after"); !errors.Is(err, errClosed) {
				t.Errorf("got %v from a closed storage, want %v", err, errClosed)
			}
			if err := s.Unlock(ctx, "during"); err != nil {
				t.Fatal(err)
			}
			select {
			case <-idle:
			default:
				t.Error("it is not idle though no lock is held")
			}
		})
	}
}

// TestLocksAreExclusive holds that a lock that is held is not given again.
func TestLocksAreExclusive(t *testing.T) {
	s, ctx := newStorage(t.TempDir()), t.Context()
	if err := s.Lock(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if ok, err := s.TryLock(ctx, "a"); ok || err != nil {
		t.Errorf("got %t, %v; want no lock and no error", ok, err)
	}
	if err := s.Unlock(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.close():
	default:
		t.Error("it is not idle though no lock is held")
	}
}
