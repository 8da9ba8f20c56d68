package admin

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"path/filepath"
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

// Change is settings with what they need bound, and nothing live touched: who connects
// waits until it is committed. It must be committed or aborted.
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
		file, l, err := c.inherited.takeSocket(settings.Socket)
		if l == nil && err == nil {
			file, l, err = openSocket(settings.Socket)
		}
		if err != nil {
			c.Abort()
			return nil, &PlaceError{Socket: true, Err: err}
		}
		c.socket = &place{socket: settings.Socket, file: file, listener: l}
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
		c.socket.file.remove()
		c.socket.listener.Close()
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
	if c.socket != nil {
		s.socket = c.socket
	}
	if s.socket != nil && (s.socket.file.theirs || s.socket.socket != c.settings.Socket) {
		s.socket.file.theirs, s.socket.socket = false, c.settings.Socket
		if err := s.socket.file.permit(c.settings.Socket); err != nil {
			s.o.Log.Error("admin socket keeps its mode", slog.Any("error", err))
		}
	}
	if c.socket != nil {
		s.begin(s.socket)
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
