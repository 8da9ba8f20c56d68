package sni_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"slices"
)

// What ClientHellos are built of. All bytes are deterministic, and the key
// shares are real points, so that servers take the hellos up.

type extension struct {
	typ  uint16
	data []byte
}

// message is a ClientHello in parts.
type message struct {
	legacyVersion uint16
	session       []byte
	suites        []byte
	compression   []byte
	extensions    []extension
}

// modern is a hello as OpenSSL would send it: TLS 1.3 and 1.2, X25519.
func modern(name string) message {
	return message{
		legacyVersion: 0x0303,
		session:       digest("session"),
		suites: u16s(0x1302, 0x1303, 0x1301, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc02b, 0xc02f,
			0xc024, 0xc028, 0xc023, 0xc027, 0x009d, 0x009c, 0x003d, 0x003c, 0x0035, 0x002f, 0x00ff),
		compression: []byte{0},
		extensions: []extension{
			serverName(name),
			{11, vec8([]byte{0})},
			groups(0x001d, 0x0017, 0x0018),
			{35, nil},
			alpn("h2", "http/1.1"),
			{22, nil},
			{23, nil},
			signatures(0x0403, 0x0503, 0x0603, 0x0807, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601),
			versions(0x0304, 0x0303),
			{45, vec8([]byte{1})},
			keyShares(x25519Share()),
		},
	}
}

// chrome is a hello as Chrome sends it: GREASE, X25519MLKEM768, ALPS, ECH GREASE.
func chrome(name string) message {
	return message{
		legacyVersion: 0x0303,
		session:       digest("session"),
		suites: u16s(0x3a3a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8,
			0xc013, 0xc014, 0x009c, 0x009d, 0x002f, 0x0035),
		compression: []byte{0},
		extensions: []extension{
			{0x5a5a, nil},
			{0xff01, []byte{0}},
			serverName(name),
			versions(0x8a8a, 0x0304, 0x0303),
			{11, vec8([]byte{0})},
			groups(0x6a6a, 0x11ec, 0x001d, 0x0017, 0x0018),
			echGREASE(),
			{18, nil},
			{27, vec8(u16s(2))},
			keyShares(extension{0x6a6a, []byte{0}}, mlkemShare(), x25519Share()),
			{35, nil},
			{45, vec8([]byte{1})},
			alpn("h2", "http/1.1"),
			{0x44cd, vec16(vec8([]byte("h2")))},
			{23, nil},
			signatures(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601),
			{5, []byte{1, 0, 0, 0, 0}},
			{0xaaaa, []byte{0}},
		},
	}
}

// old is a hello of TLS 1.2 and below.
func old(name string) message {
	m := modern(name)
	m.suites = u16s(0xc02c, 0xc030, 0xc02b, 0xc02f, 0x009d, 0x009c, 0x00ff)
	m.session = nil
	return m.without(43, 45, 51)
}

// without returns m less the extensions of the given types.
func (m message) without(types ...uint16) message {
	m.extensions = slices.DeleteFunc(slices.Clone(m.extensions), func(e extension) bool {
		return slices.Contains(types, e.typ)
	})
	return m
}

// with returns m with further extensions at the end, replacing those of their type.
func (m message) with(extensions ...extension) message {
	for _, e := range extensions {
		m = m.without(e.typ)
	}
	return m.and(extensions...)
}

// and returns m with further extensions at the end.
func (m message) and(extensions ...extension) message {
	m.extensions = append(slices.Clone(m.extensions), extensions...)
	return m
}

// padded returns m with a padding extension (RFC 7685) that makes it size bytes long.
func (m message) padded(size int) message {
	empty := len(m.with(extension{21, nil}).bytes())
	return m.with(extension{21, make([]byte, size-empty)})
}

// bytes returns the handshake message.
func (m message) bytes() []byte {
	return handshake(1, m.body())
}

func (m message) body() []byte {
	var list []byte
	for _, e := range m.extensions {
		list = append(list, e.bytes()...)
	}
	return join(u16s(m.legacyVersion), digest("random"), vec8(m.session), vec16(m.suites), vec8(m.compression), vec16(list))
}

func (e extension) bytes() []byte { return join(u16s(e.typ), vec16(e.data)) }

func handshake(typ byte, body []byte) []byte {
	return join([]byte{typ, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body)
}

func serverName(name string) extension {
	return serverNames(hostName(name))
}

func serverNames(entries ...[]byte) extension {
	return extension{0, vec16(join(entries...))}
}

func hostName(name string) []byte { return nameOfType(0, name) }

func nameOfType(typ byte, name string) []byte {
	return join([]byte{typ}, vec16([]byte(name)))
}

func alpn(protocols ...string) extension {
	var list []byte
	for _, p := range protocols {
		list = append(list, vec8([]byte(p))...)
	}
	return extension{16, vec16(list)}
}

func versions(v ...uint16) extension   { return extension{43, vec8(u16s(v...))} }
func groups(v ...uint16) extension     { return extension{10, vec16(u16s(v...))} }
func signatures(v ...uint16) extension { return extension{13, vec16(u16s(v...))} }

func keyShares(shares ...extension) extension {
	var list []byte
	for _, s := range shares {
		list = append(list, s.bytes()...)
	}
	return extension{51, vec16(list)}
}

func x25519Share() extension { return extension{0x001d, x25519Point()} }

func x25519Point() []byte {
	key, err := ecdh.X25519().NewPrivateKey(digest("x25519"))
	if err != nil {
		panic(err)
	}
	return key.PublicKey().Bytes()
}

func mlkemShare() extension {
	seed := sha512.Sum512([]byte("mlkem"))
	key, err := mlkem.NewDecapsulationKey768(seed[:])
	if err != nil {
		panic(err)
	}
	return extension{0x11ec, join(key.EncapsulationKey().Bytes(), x25519Point())}
}

func echGREASE() extension {
	payload := bytes.Repeat(digest("payload"), 5)[:144]
	return extension{0xfe0d, join([]byte{0, 0, 1, 0, 1, 0x2a}, vec16(x25519Point()), vec16(payload))}
}

func digest(what string) []byte {
	sum := sha256.Sum256([]byte("snicket hello table: " + what))
	return sum[:]
}

func u16s(values ...uint16) []byte {
	var b []byte
	for _, v := range values {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return b
}

func vec8(b []byte) []byte { return join([]byte{byte(len(b))}, b) }

func vec16(b []byte) []byte {
	if len(b) > 0xffff {
		panic("vector too long")
	}
	return join([]byte{byte(len(b) >> 8), byte(len(b))}, b)
}

func join(parts ...[]byte) []byte { return slices.Concat(parts...) }

// record returns one TLS record.
func record(typ byte, version uint16, payload []byte) []byte {
	return join([]byte{typ, byte(version >> 8), byte(version)}, vec16(payload))
}

// records returns msg in handshake records of the given sizes, of which the last repeats.
func records(msg []byte, sizes ...int) []byte {
	var stream []byte
	for i := 0; len(msg) > 0; i++ {
		n := min(len(msg), sizes[min(i, len(sizes)-1)])
		stream = append(stream, record(22, 0x0301, msg[:n])...)
		msg = msg[n:]
	}
	return stream
}

// whole returns msg in as few records as can be.
func whole(msg []byte) []byte { return records(msg, 1<<14) }
