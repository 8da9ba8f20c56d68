// Package watch tells when files may have changed.
//
// A [Watcher] is given the paths of files, and patterns of them, and wakes its owner
// some moments after one of them was written, replaced, removed or made, whether it is
// there now or not. It watches directories, as a file that is replaced takes a watch on
// itself along: those that the files are in, and those of every symbolic link on the
// way, so that the swap of a link is seen as well.
//
// The package does not look at what files hold: an owner that was woken finds out what
// has changed, if anything has. Nor does it replace looking from time to time: the
// kernel tells nothing of network file systems, and may have no watch left.
package watch

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long nothing must have happened before a change counts as over,
	// and restless how long that is waited for: files are seldom written at once.
	quiet    = 50 * time.Millisecond
	restless = time.Second
)

// Watcher watches files. All but Changed belongs to one goroutine.
type Watcher struct {
	changed chan struct{} // of capacity 1
	matters atomic.Pointer[interest]

	notify  *fsnotify.Watcher // nil until the first Watch
	watched map[string]bool   // directories
	pump    sync.WaitGroup
}

// New returns a watcher that watches nothing yet.
func New() *Watcher {
	w := &Watcher{changed: make(chan struct{}, 1)}
	w.matters.Store(newInterest(nil))
	return w
}

// Changed gets a value when some of the files may have changed, once for a burst of
// changes.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Watch watches files from now on, and no longer those of the call before. They are
// absolute patterns of [path/filepath.Match], of which [Quote] makes one for a single
// file; no file needs to exist. Call it
// before each look at the files, as directories and links may have been replaced: what
// changes between the two is then told once more, and not never.
//
// The error says why changes may go unseen, such as a limit of the system; what can be
// watched is.
func (w *Watcher) Watch(files []string) error {
	if w.notify == nil {
		notify, err := fsnotify.NewWatcher()
		if err != nil {
			return err // a limit that may be lifted: the next call tries again
		}
		w.notify = notify
		w.pump.Go(func() { w.forward(notify) })
	}
	in := newInterest(files)
	w.matters.Store(in)
	for dir := range w.watched {
		if _, still := in.dirs[dir]; !still {
			// One that is gone has ended its watch itself.
			_ = w.notify.Remove(dir)
		}
	}
	var failed error
	// Added again each time: a directory that was removed and made anew under the
	// same name has lost its watch, and a second one is none.
	for _, dir := range slices.Sorted(maps.Keys(in.dirs)) {
		if err := w.notify.Add(dir); err != nil && failed == nil && in.dirs[dir] {
			failed = fmt.Errorf("%s: %w", dir, err)
		}
	}
	w.watched = in.dirs
	return failed
}

// Close ends the watching and waits for what the watcher has started.
func (w *Watcher) Close() {
	if w.notify != nil {
		_ = w.notify.Close() // has no error that leaves it open
		w.pump.Wait()
	}
}

// forward turns bursts of events into single ones until notify is closed.
func (w *Watcher) forward(notify *fsnotify.Watcher) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	var since time.Time // of the first event not passed on; zero: none
	for {
		select {
		case event, ok := <-notify.Events:
			switch {
			case !ok:
				return
			case !w.matters.Load().in(event.Name):
				continue
			case since.IsZero():
				since = time.Now()
			}
			timer.Reset(max(0, min(quiet, restless-time.Since(since))))
		case _, ok := <-notify.Errors: // events were lost
			if !ok {
				return
			}
			timer.Reset(0)
		case <-timer.C:
			since = time.Time{}
			select {
			case w.changed <- struct{}{}:
			default:
			}
		}
	}
}
