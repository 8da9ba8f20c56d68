package server

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// youngFor is how long after a change a file may change once more without any sign of it
// but its content: the kernel stamps times by a clock that ticks.
const youngFor = time.Second

// content tells one state of a file from another: a digest of what it holds, or why that
// cannot be read. It is comparable.
type content struct {
	sum [sha256.Size]byte
	why string
}

// stamp is what changes when a file is written or replaced. It is comparable.
type stamp struct {
	device, inode    uint64
	size             int64
	written, changed syscall.Timespec
}

// sight is what was last seen of a file.
type sight struct {
	stamp   stamp
	young   bool // it may have changed since behind the same stamp
	content content
	round   int // the last in which it was looked at
}

// eye sees what files hold, and reads again only those that may have changed. It belongs
// to one goroutine at a time.
type eye struct {
	seen  map[string]sight
	round int
}

func newEye() *eye { return &eye{seen: map[string]sight{}} }

// look returns what a file holds now.
func (e *eye) look(path string) content {
	info, err := os.Stat(path)
	if err == nil {
		if was, ok := e.seen[path]; ok && !was.young && was.stamp == stampOf(info) {
			was.round = e.round
			e.seen[path] = was
			return was.content
		}
	}
	c, _, _ := e.read(path, info, err)
	return c
}

// ReadFile reads a file as [os.ReadFile] does, but for what is no regular file, and keeps
// in mind what it held.
func (e *eye) ReadFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	_, b, err := e.read(path, info, err)
	return b, err
}

// read reads a file of which info, or err, was seen just before: what changes between
// the two is seen at the next look.
func (e *eye) read(path string, info fs.FileInfo, err error) (content, []byte, error) {
	if err == nil && !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	}
	var b []byte
	if err == nil {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		c := content{why: err.Error()}
		e.seen[path] = sight{young: true, content: c, round: e.round}
		return c, nil, err
	}
	c := content{sum: sha256.Sum256(b)}
	s := stampOf(info)
	e.seen[path] = sight{stamp: s, young: time.Since(time.Unix(s.changed.Unix())) < youngFor, content: c, round: e.round}
	return c, b, nil
}

// last returns what a file held when it was last looked at.
func (e *eye) last(path string) content { return e.seen[path].content }

// next ends a round: files that were not looked at in it are forgotten.
func (e *eye) next() {
	for path, s := range e.seen {
		if s.round != e.round {
			delete(e.seen, path)
		}
	}
	e.round++
}

// forget makes the next look at each file read it.
func (e *eye) forget() { clear(e.seen) }

func stampOf(info fs.FileInfo) stamp {
	s := stamp{size: info.Size()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		s.device, s.inode, s.written, s.changed = st.Dev, st.Ino, st.Mtim, st.Ctim
	}
	return s
}
