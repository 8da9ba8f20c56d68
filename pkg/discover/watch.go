package discover

import (
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long nothing must have happened before a change counts as over,
	// and restless how long that is waited for: a file is seldom written at once.
	quiet    = 50 * time.Millisecond
	restless = time.Second
)

// watcher tells when a file may have changed. It watches directories, as a file that
// is replaced takes a watch on itself along: the one the path names, and the one that
// the file is in once symbolic links are followed.
type watcher struct {
	path    string
	changed chan struct{} // of capacity 1

	notify  *fsnotify.Watcher // nil until the first refresh
	watched []string
	linked  atomic.Bool // links lead to the file, or did: any name may matter
	pump    sync.WaitGroup
}

func newWatcher(path string) *watcher {
	return &watcher{path: path, changed: make(chan struct{}, 1)}
}

// refresh watches the directories that are now the right ones. The error says why
// changes may go unseen.
func (w *watcher) refresh() error {
	if w.notify == nil {
		notify, err := fsnotify.NewWatcher()
		if err != nil {
			return err // a limit that may be lifted: the next look tries again
		}
		w.notify = notify
		w.pump.Go(func() { w.forward(notify) })
	}
	want := []string{filepath.Dir(w.path)}
	target, err := filepath.EvalSymlinks(w.path)
	w.linked.Store(err != nil || target != w.path)
	if err == nil && filepath.Dir(target) != want[0] {
		want = append(want, filepath.Dir(target))
	}
	var failed error
	for _, dir := range w.watched {
		if !slices.Contains(want, dir) {
			// One that is gone has ended its watch itself.
			_ = w.notify.Remove(dir)
		}
	}
	// Added again each time: a directory that was removed and made anew under the
	// same name has lost its watch, and a second one is none.
	for _, dir := range want {
		if err := w.notify.Add(dir); err != nil && failed == nil {
			failed = fileError(dir, err)
		}
	}
	w.watched = want
	return failed
}

// forward turns bursts of events into single ones until notify is closed. Events of
// other files in the directory count only where links lead to the file, as which ones
// is not known here.
func (w *watcher) forward(notify *fsnotify.Watcher) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	var since time.Time // of the first event not passed on; zero: none
	for {
		select {
		case event, ok := <-notify.Events:
			switch {
			case !ok:
				return
			case event.Op == fsnotify.Chmod, event.Name != w.path && !w.linked.Load():
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

func (w *watcher) close() {
	if w.notify != nil {
		_ = w.notify.Close() // has no error that leaves it open
		w.pump.Wait()
	}
}
