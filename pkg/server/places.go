package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/pkg/config"
)

// places reports files that are to be made where that cannot be. It makes none.
func (b *builder) places() {
	switch l := &b.config.Log; l.Access {
	case "", config.AccessOff, config.AccessStdout:
	case config.AccessSyslog:
		if b.syslog == "" {
			break // who opens it finds out
		}
		if err := syslogListens(b.syslog); err != nil {
			b.problem(accessProblem(l, err))
		}
	default:
		if err := writable(l.Access); err != nil {
			b.problem(accessProblem(l, err))
		}
	}
	for _, l := range b.config.Listeners {
		if path := l.Address.Path; path != "" {
			b.socketPlace(fmt.Sprintf("listener %q", l.Name), path, l.Pos)
		}
	}
	if a := &b.config.Admin; a.Socket != "" && a.Socket != config.AdminOff {
		b.socketPlace("admin", a.Socket, a.Pos)
	}
}

// writable returns nil when the file in path can be written, or made.
func writable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return insertable(filepath.Dir(path))
	case err != nil:
		return err
	case info.IsDir():
		return &fs.PathError{Op: "open", Path: path, Err: unix.EISDIR}
	}
	return accessible(path, unix.W_OK)
}

// insertable returns nil when files can be made in a directory.
func insertable(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "open", Path: dir, Err: unix.ENOTDIR}
	}
	return accessible(dir, unix.W_OK|unix.X_OK)
}

func accessible(path string, how uint32) error {
	if err := unix.Faccessat(unix.AT_FDCWD, path, how, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return nil
}

// socketPlace reports that the socket of whom cannot be made in path.
func (b *builder) socketPlace(whom, path string, pos config.Position) {
	p := config.Problem{Pos: pos}
	info, err := os.Lstat(path)
	switch {
	case err == nil && info.Mode().Type() != os.ModeSocket:
		p.Text = fmt.Sprintf("%s: %s is a file that is no socket", whom, path)
		p.Hint = "name another path, or move the file away: it is not snicket's to replace"
	default:
		err := insertable(filepath.Dir(path))
		if err == nil {
			return
		}
		p.Text = fmt.Sprintf("%s: %v", whom, err)
		p.Hint = "create the directory, or name another"
		if errors.Is(err, fs.ErrPermission) {
			p.Hint = "let the user that runs snicket write into the directory"
		}
	}
	b.problem(p)
}
