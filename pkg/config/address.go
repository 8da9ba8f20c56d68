package config

import (
	"net"
	"net/netip"
	"strconv"
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
}

// String returns the form the configuration has it in: ":443", "192.0.2.1:443",
// "[::]:443", "unix:/run/snicket.sock".
func (a ListenAddress) String() string {
	switch {
	case a.Path != "":
		return unixScheme + a.Path
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
