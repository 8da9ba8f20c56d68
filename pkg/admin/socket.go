package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// socketFile is the file of a Unix socket that is listened on.
type socketFile struct {
	path string
	ino  uint64 // of the file that is ours
	// theirs says that the file is another process's to remove: until the commit the one
	// that it is inherited from, and later the one that has inherited it.
	theirs bool
}

const (
	// socketWait is how long the process that may answer at a socket is waited for.
	socketWait = time.Second
	// claimWait is how long the one is that is about to.
	claimWait = 3 * time.Second
)

// openSocket listens on a new Unix socket, in the place of one that nobody answers at.
// Of processes that begin at once one gets it.
func openSocket(o SocketSettings) (*socketFile, net.Listener, error) {
	if o.MakeDir {
		if err := os.MkdirAll(filepath.Dir(o.Path), 0o755); err != nil {
			return nil, nil, err
		}
	}
	release, err := claim(o.Path)
	if err != nil {
		return nil, nil, err
	}
	defer release()
	if err := vacate(o.Path); err != nil {
		return nil, nil, err
	}
	return bindSocket(o)
}

// claim keeps others from looking whether a socket can be replaced, until release:
// between a look and the replacement the socket of another could have come there, and a
// socket that is not listened on yet looks as one that nobody answers at. It is a file
// beside the socket, locked by flock(2) and removed again; the lock goes with the
// process.
func claim(path string) (release func(), err error) {
	name := path + ".lock"
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(claimWait); ; {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && isAt(f, name) {
			return func() {
				_ = os.Remove(name) // while it is locked: whoever waits for it looks again
				f.Close()
			}, nil
		}
		f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, &fs.PathError{Op: "flock", Path: name, Err: err}
		}
		select {
		case <-tick.C:
		case <-late:
			return nil, &fs.PathError{Op: "flock", Path: name, Err: fmt.Errorf("%w, or is about to", ErrAnswered)}
		}
	}
}

// isAt reports whether f is the file that has the name now.
func isAt(f *os.File, name string) bool {
	ours, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(name)
	return err == nil && os.SameFile(ours, there)
}

// vacate removes a socket that nobody answers at. It removes nothing else. The caller has
// claimed the path.
func vacate(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return &fs.PathError{Op: "bind", Path: path, Err: errors.New("it is a file that is no socket")}
	}
	conn, err := net.DialTimeout("unix", path, socketWait)
	switch {
	case err == nil:
		conn.Close()
		return &fs.PathError{Op: "bind", Path: path, Err: ErrAnswered}
	case errors.Is(err, unix.ECONNREFUSED):
		return os.Remove(path)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	// Its queue is full, or it is not ours to ask: somebody holds it.
	return &fs.PathError{Op: "bind", Path: path, Err: fmt.Errorf("%w: %w", ErrAnswered, err)}
}

// bindSocket binds and listens. In between it sets the permissions: before anybody can
// connect.
func bindSocket(o SocketSettings) (*socketFile, net.Listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), o.Path)
	defer file.Close() // the listener has a descriptor of its own
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: o.Path}); err != nil {
		return nil, nil, &fs.PathError{Op: "bind", Path: o.Path, Err: err}
	}
	f := &socketFile{path: o.Path}
	var st unix.Stat_t
	if err := unix.Lstat(o.Path, &st); err == nil {
		f.ino = st.Ino
	}
	l, err := f.listen(file, o)
	if err != nil {
		f.remove()
		return nil, nil, err
	}
	return f, l, nil
}

func (f *socketFile) listen(file *os.File, o SocketSettings) (net.Listener, error) {
	if err := f.permit(o); err != nil {
		return nil, err
	}
	if err := unix.Listen(int(file.Fd()), unix.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return net.FileListener(file)
}

// permit gives the file its mode and group.
func (f *socketFile) permit(o SocketSettings) error {
	if o.GID >= 0 {
		if err := os.Lchown(f.path, -1, o.GID); err != nil {
			return err
		}
	}
	return os.Chmod(f.path, o.Mode)
}

// remove removes the file, if it is ours still.
func (f *socketFile) remove() {
	if f.theirs {
		return
	}
	var st unix.Stat_t
	if err := unix.Lstat(f.path, &st); err == nil && st.Ino == f.ino {
		_ = os.Remove(f.path)
	}
}
