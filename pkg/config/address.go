package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/snicketlb/snicket/sni"
)

// ListenAddress is where a listener accepts. It is comparable: two equal ones are
// the same socket, also when the listener was renamed.
type ListenAddress struct {
	// AddrPort is the address to bind; its zone may be set, its port may be 0 (the
	// kernel chooses). Not valid when Path is set.
	AddrPort netip.AddrPort
	// Dual is set for ":port": AddrPort is [::]:port and takes IPv4 as well. Without
	// it an IPv6 address takes IPv6 alone.
	Dual bool
	Path string // Unix socket, absolute; empty: TCP
	// Systemd names the sockets that the service manager passes (socket activation); all
	// else is zero then.
	Systemd string
}

// String returns the form the configuration has it in: ":443", "192.0.2.1:443",
// "[::]:443", "unix:/run/snicket.sock", "systemd:https".
func (a ListenAddress) String() string {
	switch {
	case a.Path != "":
		return unixScheme + a.Path
	case a.Systemd != "":
		return systemdScheme + a.Systemd
	case a.Dual:
		return ":" + strconv.Itoa(int(a.AddrPort.Port()))
	}
	return a.AddrPort.String()
}

// AddressKind says which fields of an Address count.
type AddressKind int

// The kinds of a backend's address.
const (
	AddressIP   AddressKind = iota + 1 // AddrPort
	AddressUnix                        // Path
	AddressName                        // Host and Port, resolved by whoever dials
)

// Address is where a backend is dialled. It is comparable.
type Address struct {
	Kind     AddressKind
	AddrPort netip.AddrPort // with zone; never IPv4-mapped
	Path     string         // absolute
	Host     string         // lower case
	Port     uint16         // of AddressIP and AddressName
}

// String returns the form the configuration has it in: "10.0.0.5:443",
// "[fe80::1%eth0]:443", "unix:/run/app.sock", "app.internal:443".
func (a Address) String() string {
	switch a.Kind {
	case AddressIP:
		return a.AddrPort.String()
	case AddressUnix:
		return unixScheme + a.Path
	case AddressName:
		return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
	}
	return ""
}

// unixScheme comes before the path of a Unix socket.
const unixScheme = "unix:"

// systemdScheme comes before the name of sockets of the service manager's, which is at
// most so long (systemd.socket(5), FileDescriptorName=).
const (
	systemdScheme  = "systemd:"
	maxSystemdName = 255
)

// maxUnixPath is the longest path a Unix socket can have (unix(7): 108 with its NUL).
const maxUnixPath = 107

// parseListenAddress reads what a listener binds. dir is where a relative path of a
// Unix socket starts.
func parseListenAddress(s, dir string) (ListenAddress, error) {
	const hint = `write ":443", "192.0.2.1:443", "[2001:db8::1]:443", "unix:/path" or "systemd:NAME"`
	if path, ok := strings.CutPrefix(s, unixScheme); ok {
		path, err := unixPath(path, dir)
		return ListenAddress{Path: path}, err
	}
	if name, ok := strings.CutPrefix(s, systemdScheme); ok {
		if !systemdName(name) {
			return ListenAddress{}, complain("write what FileDescriptorName= of the socket unit says", "%q is no name of a socket", name)
		}
		return ListenAddress{Systemd: name}, nil
	}
	host, portText, err := net.SplitHostPort(s)
	if err != nil {
		if _, err := parsePort(s, 0); err == nil {
			hint := fmt.Sprintf("write %q", ":"+s)
			return ListenAddress{}, complain(hint, "address %q has no colon before its port", s)
		}
		if a, ok := withoutBrackets(s); ok {
			return ListenAddress{}, complain(fmt.Sprintf("write %q", a), "address %q has no brackets around its IPv6 address", s)
		}
		return ListenAddress{}, complain(hint, "%q is no address to listen on", s)
	}
	port, err := parsePort(portText, 0)
	if err != nil {
		return ListenAddress{}, err
	}
	if host == "" {
		return ListenAddress{AddrPort: netip.AddrPortFrom(netip.IPv6Unspecified(), port), Dual: true}, nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		if host == "*" {
			return ListenAddress{}, complain(fmt.Sprintf("write %q", ":"+portText), "%q is no address to listen on", s)
		}
		return ListenAddress{}, complain("a listener takes an IP address, or none for all of them", "%q is no IP address", host)
	}
	return ListenAddress{AddrPort: netip.AddrPortFrom(ip.Unmap(), port)}, nil
}

// systemdName reports whether systemd would take name for sockets.
func systemdName(name string) bool {
	return name != "" && len(name) <= maxSystemdName &&
		!strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' })
}

// overlaps says that a and b would take connections from one another.
func (a ListenAddress) overlaps(b ListenAddress) bool {
	if a == b {
		return a.Path != "" || a.Systemd != "" || a.AddrPort.Port() != 0
	}
	if !a.AddrPort.IsValid() || !b.AddrPort.IsValid() || a.AddrPort.Port() != b.AddrPort.Port() || a.AddrPort.Port() == 0 {
		return false
	}
	return a.Dual && b.AddrPort.Addr().IsUnspecified() || b.Dual && a.AddrPort.Addr().IsUnspecified()
}

// parseAddress reads what a backend is dialled at.
func parseAddress(s, dir string) (Address, error) {
	const hint = `write "10.0.0.5:443", "[2001:db8::5]:443", "app.internal:443" or "unix:/path"`
	if path, ok := strings.CutPrefix(s, unixScheme); ok {
		path, err := unixPath(path, dir)
		return Address{Kind: AddressUnix, Path: path}, err
	}
	if strings.Contains(s, "://") {
		return Address{}, complain(hint, "backend %q is a URL", s)
	}
	host, portText, err := net.SplitHostPort(s)
	if err != nil {
		if a, ok := withoutBrackets(s); ok {
			return Address{}, complain(fmt.Sprintf("write %q", a), "backend %q has no brackets around its IPv6 address", s)
		}
		if ip, err := netip.ParseAddr(s); err == nil {
			return Address{}, complain(fmt.Sprintf("write %q", netip.AddrPortFrom(ip, 443)), "backend %q has no port", s)
		}
		if !strings.ContainsAny(s, ":/ ") && s != "" {
			return Address{}, complain(fmt.Sprintf("write %q", s+":443"), "backend %q has no port", s)
		}
		return Address{}, complain(hint, "%q is no address of a backend", s)
	}
	port, err := parsePort(portText, 1)
	if err != nil {
		return Address{}, err
	}
	if host == "" {
		return Address{}, complain(fmt.Sprintf("write %q for this machine", "127.0.0.1:"+portText), "backend %q has no host", s)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsUnspecified() || ip.IsMulticast() {
			return Address{}, complain(hint, "backend %q cannot be dialled", s)
		}
		return Address{Kind: AddressIP, AddrPort: netip.AddrPortFrom(ip.Unmap(), port), Port: port}, nil
	}
	host = strings.ToLower(host)
	name := strings.TrimSuffix(host, ".") // with the dot no search domain is tried
	if err := sni.CheckName(name); err != nil || allDigits(name[strings.LastIndexByte(name, '.')+1:]) {
		return Address{}, complain(hint, "%q is neither an IP address nor a host name", host)
	}
	return Address{Kind: AddressName, Host: host, Port: port}, nil
}

// withoutBrackets reads an IPv6 address with a port and without brackets. "::1:443" is
// an address by itself as well: what looks like a port, of two digits or more, is one.
func withoutBrackets(s string) (netip.AddrPort, bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || len(s)-i <= 2 {
		return netip.AddrPort{}, false
	}
	ip, err := netip.ParseAddr(s[:i])
	port, portErr := parsePort(s[i+1:], 1)
	return netip.AddrPortFrom(ip, port), err == nil && portErr == nil && ip.Is6()
}

// Private reports whether bytes to a stay on this machine or in its own network, as far
// as the address tells. A name tells nothing, and counts as private.
func (a Address) Private() bool { return a.Kind != AddressIP || private(a.AddrPort.Addr()) }

// private says that ip belongs to this machine or to its own network.
func private(ip netip.Addr) bool {
	return ip.IsLoopback() || ip.IsPrivate() || ip.IsLinkLocalUnicast()
}

func parsePort(s string, least int) (uint16, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > 65535 || !allDigits(s) {
		return 0, complain("a port is a number from 1 to 65535", "%q is no port", s)
	}
	return uint16(n), nil
}

func unixPath(path, dir string) (string, error) {
	if path == "" {
		return "", complain(`write "unix:/run/app.sock"`, "unix: without a path")
	}
	if err := printable(path); err != nil {
		return "", err
	}
	path = resolvePath(path, dir)
	if len(path) > maxUnixPath {
		return "", complain("choose a shorter path", "socket path %q has %d bytes, limit %d", path, len(path), maxUnixPath)
	}
	return path, nil
}

func allDigits(s string) bool {
	return strings.Trim(s, "0123456789") == ""
}
