package discover

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/snicketlb/snicket/pkg/watch"
)

// MaxFileSize is the size of a file of backends at most, in bytes: 4 MiB.
const MaxFileSize = 4 << 20

// fileLooker reads a file of backends, and again when it has changed.
type fileLooker struct {
	path    string // absolute, if the working directory is known
	watcher *watch.Watcher
}

func newFileLooker(path string) *fileLooker {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return &fileLooker{path: path, watcher: watch.New()}
}

func (l *fileLooker) look(context.Context) (found, error) {
	// First watched, then read: what changes between the two is seen twice, not never.
	f := found{wait: FilePoll}
	if err := l.watcher.Watch([]string{watch.Quote(l.path)}); err != nil {
		f.wait = UnwatchedPoll
		f.note = fmt.Sprintf("not watched, read every %v: %v", UnwatchedPoll, err)
	}
	text, err := readFile(l.path)
	if err != nil {
		return f, err
	}
	f.backends, err = ParseFile(l.path, text)
	return f, err
}

func (l *fileLooker) events() <-chan struct{} { return l.watcher.Changed() }

func (l *fileLooker) close() { l.watcher.Close() }

// readFile reads a regular file of MaxFileSize at most.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, fileError(path, err)
	case !info.Mode().IsRegular(): // opening a pipe would wait for its writer
		return nil, fmt.Errorf("%s: is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fileError(path, err)
	}
	defer f.Close()
	var text bytes.Buffer
	n, err := io.Copy(&text, io.LimitReader(f, MaxFileSize+1))
	switch {
	case err != nil:
		return nil, fileError(path, err)
	case n > MaxFileSize:
		return nil, fmt.Errorf("%s: more than the limit of %d bytes", path, MaxFileSize)
	}
	return text.Bytes(), nil
}

// fileError says what the system said of path.
func fileError(path string, err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return fmt.Errorf("%s: %w", path, err)
}
