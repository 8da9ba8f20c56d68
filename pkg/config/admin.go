package config

import (
	"fmt"
	"io/fs"
	"strconv"
)

// Admin is where operators reach a running balancer.
type Admin struct {
	// Socket is the absolute path of a Unix socket, or AdminOff. Empty: where the
	// environment of the process has its place for it, which is not this package's to
	// know.
	Socket string
	Mode   fs.FileMode // of the socket's file
	Group  string      // that the file belongs to; empty: the process's own
	// Address is where the API is read over plain HTTP; zero: nowhere.
	Address    ListenAddress
	Pos        Position // of the socket, or of the table where it is the default
	GroupPos   Position // likewise
	AddressPos Position // likewise
}

// AdminOff is the value of Admin.Socket that is no path.
const AdminOff = "off"

// HasAddress reports whether the API is read over plain HTTP.
func (a *Admin) HasAddress() bool { return a.Address.AddrPort.IsValid() }

func (d *decoder) admin(t table) Admin {
	a := Admin{
		Mode:  parsed(t, "mode", 0o600, parseFileMode),
		Group: t.string("group", ""),
		Pos:   t.pos("socket"), GroupPos: t.pos("group"), AddressPos: t.pos("address"),
	}
	switch s := t.string("socket", ""); s {
	case "", AdminOff:
		a.Socket = s
	default:
		path, err := unixPath(s, t.v.src.dir)
		if err != nil {
			text, hint := textAndHint(err)
			d.problem(a.Pos, hint, "socket: %s", text)
		}
		a.Socket = path
	}
	if a.Group != "" && a.Mode&0o060 == 0 {
		d.warning(a.GroupPos, `write mode = "0660"`, "group %q may not use a socket of mode %q", a.Group, formatFileMode(a.Mode))
	}
	a.Address = d.adminAddress(t)
	return a
}

func (d *decoder) adminAddress(t table) ListenAddress {
	s := t.string("address", "")
	if s == "" {
		return ListenAddress{}
	}
	at := t.pos("address")
	a, err := parseListenAddress(s, t.v.src.dir)
	switch {
	case err != nil:
		text, hint := textAndHint(err)
		d.problem(at, hint, "address: %s", text)
		return ListenAddress{}
	case a.Path != "":
		d.problem(at, `write socket = "`+a.Path+`"`, "address %q is a Unix socket", s)
		return ListenAddress{}
	case a.Systemd != "":
		d.problem(at, `write "127.0.0.1:9600", or another IP address and port`, "address %q is for listeners alone", s)
		return ListenAddress{}
	}
	if !private(a.AddrPort.Addr()) {
		d.warning(at, `write "127.0.0.1:9600", or an address of your own network`,
			"address %q may be read by others, and tells who your clients are", s)
	}
	return a
}

// parseFileMode reads permissions as chmod(1) does: "0600".
func parseFileMode(s string) (fs.FileMode, error) {
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || len(s) < 3 || len(s) > 4 || n > 0o777 {
		return 0, complain(`write "0600", or "0660" for a group`, "%q is no mode of a file", s)
	}
	return fs.FileMode(n), nil
}

func formatFileMode(m fs.FileMode) string { return fmt.Sprintf("%04o", uint32(m.Perm())) }

func (w *writer) admin(a Admin) {
	w.header("[admin]")
	w.setOr("socket", a.Socket, "admin.sock in $RUNTIME_DIRECTORY, or /run/snicket for root, or $XDG_RUNTIME_DIR/snicket")
	w.set("mode", formatFileMode(a.Mode))
	w.setOr("group", a.Group, "none")
	if a.HasAddress() {
		w.set("address", a.Address.String())
	} else {
		w.note("address: none")
	}
}
