package acme_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab/pebble"
)

// TestStorageHangs has the storage not answer, and holds that nobody waits for it for
// long, that the end does not either, and that what it has is served when it answers.
func TestStorageHangs(t *testing.T) {
	ca := pebble.Start(t, pebble.Options{})
	dir, b := t.TempDir(), newBox()
	m := manager(t, options(ca, dir, b))
	ca.ServeTLS(edge(t, m.TLSALPN))
	m.Manage([]string{"a.test", "b.test"})
	for _, host := range []string{"a.test", "b.test"} {
		b.certificate(t, host)
	}
	m.Close()

	// A pipe that nobody writes to is read for as long as a server that is away.
	found, err := filepath.Glob(filepath.Join(dir, "certificates", "*", "a.test", "a.test.crt"))
	if err != nil || len(found) != 1 {
		t.Fatalf("got %q, %v, want the file of the certificate", found, err)
	}
	chain, err := os.ReadFile(found[0])
	if err == nil {
		err = os.Remove(found[0])
	}
	if err == nil {
		err = unix.Mkfifo(found[0], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	again := newBox()
	o := options(ca, dir, again)
	o.Reads(10 * time.Millisecond)
	m = manager(t, o)
	m.Preload([]string{"a.test"}) // returns
	again.logged(t, `msg="the storage of certificates does not answer" storage=`+dir)
	if got := m.Missing(); len(got) != 1 || got[0] != "a.test" {
		t.Errorf("missing %q, want a.test", got)
	}
	m.Preload([]string{"b.test"}) // is not behind it
	again.certificate(t, "b.test")

	pipe, err := os.OpenFile(found[0], os.O_WRONLY, 0) // who reads it is there
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(found[0]+".new", chain, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(found[0]+".new", found[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := pipe.Write(chain); err != nil {
		t.Fatal(err)
	}
	if err := pipe.Close(); err != nil {
		t.Fatal(err)
	}
	again.certificate(t, "a.test")
	again.logged(t, `msg="the storage of certificates answers again"`)
	if orders := ca.Orders(); orders != 2 {
		t.Errorf("%d orders, want the first two alone", orders)
	}
}
