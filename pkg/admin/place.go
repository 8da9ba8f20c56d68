package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// SocketSettings are those of the Unix socket. The zero value is none.
type SocketSettings struct {
	Path string
	Mode fs.FileMode
	GID  int // the file's group; negative: the process's own
	// MakeDir makes the directory of Path if there is none, for everybody to read.
	MakeDir bool
}

// Settings are the places to answer at.
type Settings struct {
	Socket  SocketSettings
	Address string // IP:port; empty: none
}

// DefaultSocket is where the socket of a process is that was told of no other, or empty
// where there is no place for it. getenv is os.Getenv, uid the effective user.
func DefaultSocket(getenv func(string) string, uid int) string {
	const name = "admin.sock"
	if dir := getenv("RUNTIME_DIRECTORY"); dir != "" { // of several, separated by ":", the first
		first := filepath.SplitList(dir)[0]
		return filepath.Join(first, name)
	}
	if uid == 0 {
		return filepath.Join("/run/snicket", name)
	}
	if dir := getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "snicket", name)
	}
	return ""
}

// PlaceError says which place cannot be had.
type PlaceError struct {
	Socket bool // else it is the TCP address
	Err    error
}

// Error is the system's word.
func (e *PlaceError) Error() string { return e.Err.Error() }

// Unwrap is the system's error.
func (e *PlaceError) Unwrap() error { return e.Err }

// ErrAnswered says that another process answers at a Unix socket.
var ErrAnswered = errors.New("another process answers there")

// Change is settings with what they need bound, and nothing live touched. It must be
// committed or aborted.
type Change struct {
	s           *Server
	settings    Settings
	socket, tcp *place // new ones; nil: none, or the former stays
	inherited   *Inherited
}

// Prepare binds what is new in the settings. Its error is a *[PlaceError], and leaves
// nothing behind.
func (s *Server) Prepare(settings Settings) (*Change, error) {
	c := &Change{s: s, settings: settings}
	s.mu.Lock()
	socket, tcp := s.socket, s.tcp
	c.inherited, s.inherited = s.inherited, nil
	s.mu.Unlock()
	if path := settings.Socket.Path; path != "" && (socket == nil || socket.socket.Path != path) {
		file := c.inherited.takeSocket(settings.Socket)
		if file == nil {
			var err error
			if file, err = bindSocket(settings.Socket); err != nil {
				c.Abort()
				return nil, &PlaceError{Socket: true, Err: err}
			}
		}
		c.socket = &place{socket: settings.Socket, file: file}
	}
	if settings.Address != "" && (tcp == nil || tcp.address != settings.Address) {
		l, err := c.inherited.takeTCP(settings.Address)
		if l == nil && err == nil {
			var lc net.ListenConfig
			lc.SetMultipathTCP(false)
			l, err = lc.Listen(context.Background(), "tcp", settings.Address)
		}
		if err != nil {
			c.Abort()
			return nil, &PlaceError{Err: err}
		}
		c.tcp = &place{address: settings.Address, listener: l}
	}
	return c, nil
}

// Abort gives up the change.
func (c *Change) Abort() {
	if c.inherited != nil {
		c.inherited.Close()
	}
	if c.socket != nil {
		c.socket.file.abandon()
	}
	if c.tcp != nil {
		c.tcp.listener.Close()
	}
}

// Commit answers at the places of the change, and no longer at others.
func (c *Change) Commit() {
	s := c.s
	if c.inherited != nil {
		c.inherited.Close()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		c.Abort()
		return
	}
	if s.socket != nil && s.socket.socket.Path != c.settings.Socket.Path {
		s.retire(s.socket)
		s.socket = nil
	}
	if s.tcp != nil && s.tcp.address != c.settings.Address {
		s.retire(s.tcp)
		s.tcp = nil
	}
	switch {
	case c.socket != nil:
		l, err := c.socket.file.listen()
		if err != nil {
			s.o.Log.Error("admin socket is deaf", slog.Any("error", err))
			c.socket.file.abandon()
			break
		}
		c.socket.listener = l
		if c.socket.file.theirs {
			c.socket.file.theirs = false
			if err := c.socket.file.permit(c.settings.Socket); err != nil {
				s.o.Log.Error("admin socket keeps its mode", slog.Any("error", err))
			}
		}
		s.socket = c.socket
		s.begin(s.socket)
	case s.socket != nil && s.socket.socket != c.settings.Socket:
		if err := s.socket.file.permit(c.settings.Socket); err != nil {
			s.o.Log.Error("admin socket keeps its mode", slog.Any("error", err))
		}
		s.socket.socket = c.settings.Socket
	}
	if c.tcp != nil {
		s.tcp = c.tcp
		s.begin(s.tcp)
	}
}

func (s *Server) begin(p *place) {
	s.serve(p)
	s.o.Log.Info("admin api answers", slog.String("address", p.String()))
}

// socketFile is a bound Unix socket. Binding and listening apart leave room to set the
// permissions before anybody can connect.
type socketFile struct {
	path string
	fd   int
	ino  uint64 // of the file that is ours
	// theirs says that the file is another process's to remove: until the commit the one
	// that it is inherited from, and later the one that has inherited it.
	theirs bool
}

// socketWait is how long the process that may answer at a socket is waited for.
const socketWait = time.Second

func bindSocket(o SocketSettings) (*socketFile, error) {
	if o.MakeDir {
		if err := os.MkdirAll(filepath.Dir(o.Path), 0o755); err != nil {
			return nil, err
		}
	}
	if err := vacate(o.Path); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: o.Path}); err != nil {
		_ = unix.Close(fd)
		return nil, &fs.PathError{Op: "bind", Path: o.Path, Err: err}
	}
	f := &socketFile{path: o.Path, fd: fd}
	var st unix.Stat_t
	if err := unix.Lstat(o.Path, &st); err == nil {
		f.ino = st.Ino
	}
	if err := f.permit(o); err != nil {
		f.abandon()
		return nil, err
	}
	return f, nil
}

// vacate removes a socket that nobody answers at. It removes nothing else.
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

// permit gives the file its mode and group.
func (f *socketFile) permit(o SocketSettings) error {
	if o.GID >= 0 {
		if err := os.Lchown(f.path, -1, o.GID); err != nil {
			return err
		}
	}
	return os.Chmod(f.path, o.Mode)
}

// listen begins to listen, and gives the descriptor to the listener.
func (f *socketFile) listen() (net.Listener, error) {
	if err := unix.Listen(f.fd, unix.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	file := os.NewFile(uintptr(f.fd), f.path)
	defer file.Close() // the listener has a descriptor of its own
	f.fd = -1
	return net.FileListener(file)
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

// abandon gives up a socket that is not listened on.
func (f *socketFile) abandon() {
	f.remove()
	if f.fd >= 0 {
		_ = unix.Close(f.fd)
		f.fd = -1
	}
}
