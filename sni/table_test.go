package sni_test

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/snicketlb/snicket/sni/hellotest"
)

// The made part of the hello table. Hellos captured from clients, testdata/hellos/client-*,
// are the other part.

// good is a case that reaches a.test's backend.
func good(name, about string, stream []byte) hellotest.Case {
	return hellotest.Case{
		Name: name, About: about, ServerName: "a.test", Expect: "ok", Outcome: "ok",
		Backend: "a", Alert: hellotest.NoAlert, Plan: "all", Stream: stream,
	}
}

// other is a case for the default backend.
func other(name, about, serverName string, stream []byte) hellotest.Case {
	c := good(name, about, stream)
	c.ServerName, c.Backend = serverName, "default"
	return c
}

// bad is a case that reaches no backend.
func bad(name, about, expect string, stream []byte) hellotest.Case {
	c := good(name, about, stream)
	c.ServerName, c.Expect, c.Outcome, c.Backend, c.Alert = "", expect, "bad-hello", "none", 50
	switch expect {
	case "too-large":
		c.Outcome = "hello-too-large"
	case "not-tls", "sslv2", "dtls":
		c.Outcome, c.Alert = "not-tls", hellotest.NoAlert
	}
	return c
}

func planned(plan hellotest.Plan, c hellotest.Case) hellotest.Case {
	c.Plan = plan
	return c
}

func madeCases() []hellotest.Case {
	var all []hellotest.Case
	for _, part := range [][]hellotest.Case{
		usualCases(), splitCases(), largeCases(), nameCases(),
		recordCases(), messageCases(), extensionCases(), foreignCases(),
	} {
		all = append(all, part...)
	}
	return all
}

func usualCases() []hellotest.Case {
	msg := modern("a.test").bytes()
	noExtensions := old("").body()
	noExtensions = noExtensions[:2+32+1+2+14+2]
	return []hellotest.Case{
		good("one-record", "one record, the usual case", whole(msg)),
		good("chrome-like", "GREASE, a post-quantum key share and ECH GREASE, as Chrome sends them", whole(chrome("a.test").bytes())),
		good("tls12-only", "a client that offers TLS 1.2 and below", whole(old("a.test").bytes())),
		good("tls13-only", "a client that offers TLS 1.3 alone", whole(modern("a.test").with(versions(0x0304)).bytes())),
		good("record-version-ssl3", "a first record with the version of SSL 3.0, which means nothing", record(22, 0x0300, msg)),
		good("record-version-tls12", "a first record with the version of TLS 1.2, as allowed", record(22, 0x0303, msg)),
		good("early-data-behind", "a change_cipher_spec and an application data record follow the hello at once",
			join(whole(msg), record(20, 0x0303, []byte{1}), record(23, 0x0303, bytes.Repeat(digest("early"), 4)))),
		other("no-name", "no server_name extension", "", whole(modern("").without(0).bytes())),
		other("no-extensions", "no extensions at all, not even their length; servers with an ECDSA certificate refuse it", "", whole(handshake(1, noExtensions))),
		other("other-name", "a name that has no route of its own", "b.test", whole(modern("b.test").bytes())),
	}
}

func splitCases() []hellotest.Case {
	m := modern("a.test")
	msg := m.bytes()
	name := bytes.Index(msg, []byte("a.test"))
	before, after := name-9, name+len("a.test")
	first := m
	first.extensions = append(first.extensions[1:len(first.extensions):len(first.extensions)], first.extensions[0])
	return []hellotest.Case{
		good("split-before-name", "two records, cut before the server_name extension", records(msg, before, 1<<14)),
		good("split-inside-name", "two records, cut inside the server name", records(msg, name+3, 1<<14)),
		good("split-inside-name-length", "two records, cut between the two bytes of the name's length", records(msg, name-1, 1<<14)),
		good("split-after-name", "two records, cut behind the server_name extension", records(msg, after, 1<<14)),
		good("split-inside-header", "two records, cut inside the handshake header", records(msg, 2, 1<<14)),
		good("split-in-three", "three records, the server name in the second one", records(msg, name-4, 14, 1<<14)),
		good("split-in-nine", "nine records of different sizes", records(msg, 5, 1, 40, 2, 33, 7, 90, 11, 1<<14)),
		good("split-name-last", "three records, server_name the last extension and alone in the last one", records(first.bytes(), 100, len(msg)-115, 1<<14)),
		good("records-1", "records of one byte", records(msg, 1)),
		good("records-32", "records of 32 bytes", records(msg, 32)),
		planned("1", good("bytes-1", "one record, sent byte by byte", whole(msg))),
		planned("40x1,rest", good("bytes-40", "one record, its first 40 bytes one by one", whole(msg))),
		planned("7", good("records-32-bytes-7", "records of 32 bytes, sent in segments of seven", records(msg, 32))),
		planned("1", good("records-1-bytes-1", "records of one byte, sent byte by byte", records(msg, 1))),
		planned("5,1,rest", good("segments-header", "the record header, one byte of payload, then the rest", whole(msg))),
	}
}

func largeCases() []hellotest.Case {
	m := modern("a.test")
	last := m.without(0)
	last.extensions = append(last.extensions, extension{21, make([]byte, 18<<10)}, serverName("a.test"))
	protocols := []string{"h2", "http/1.1"}
	for i := range 1000 {
		protocols = append(protocols, fmt.Sprintf("x-proto-%03d", i))
	}
	shares, ids := []extension{x25519Share()}, []uint16{0x001d}
	for i := range 9 {
		shares = append(shares, extension{0xfe00 + uint16(i), bytes.Repeat(digest("share"), 40)})
		ids = append(ids, 0xfe00+uint16(i))
	}
	return []hellotest.Case{
		good("large-5k", "5 KiB in one record, by padding", whole(m.padded(5<<10).bytes())),
		good("large-12k-alpn", "12 KiB in one record, by a thousand ALPN protocols", whole(m.with(alpn(protocols...)).bytes())),
		good("large-12k-shares", "12 KiB in one record, by key shares for groups of private use", whole(m.with(groups(ids...), keyShares(shares...)).bytes())),
		good("large-16k", "16 KiB, the largest that fits one record", whole(m.padded(16<<10).bytes())),
		good("large-16k-and-one", "16 KiB and one byte, which takes a second record", whole(m.padded(16<<10+1).bytes())),
		good("large-20k", "20 KiB in two records, by padding", whole(m.padded(20<<10).bytes())),
		good("large-20k-name-last", "20 KiB in two records, the server name in the second one", whole(last.padded(20<<10).swapLast().bytes())),
		planned("1400", good("large-60k", "60 KiB in four records, in segments as Ethernet cuts them", whole(m.padded(60<<10).bytes()))),
		good("large-64k", "65536 bytes, the largest accepted by default", whole(m.padded(64<<10).bytes())),
		bad("large-64k-and-one", "65537 bytes, one more than accepted by default", "too-large", whole(m.padded(64<<10+1).bytes())),
		bad("large-16m", "a length of 16 MiB, of which one record is sent", "too-large",
			whole(join([]byte{1, 0xff, 0xff, 0xff}, m.body(), make([]byte, 16000)))),
	}
}

// swapLast returns m with its last two extensions in the other order.
func (m message) swapLast() message {
	e := m.extensions
	n := len(e)
	e[n-1], e[n-2] = e[n-2], e[n-1]
	return m
}

func nameCases() []hellotest.Case {
	named := func(name string) []byte { return whole(modern(name).bytes()) }
	twice := func(entries ...[]byte) []byte { return whole(modern("").with(serverNames(entries...)).bytes()) }
	label := strings.Repeat("a", 63)
	longest := strings.Join([]string{label, label, label, label[:61]}, ".")
	return []hellotest.Case{
		good("name-upper-case", "a name in upper case", named("A.TEST")),
		good("name-trailing-dot", "a name with a trailing dot; crypto/tls refuses it", named("a.test.")),
		good("name-of-other-type", "an entry of an unknown name type before the host_name, to be skipped; OpenSSL refuses it", twice(nameOfType(7, "b.test"), hostName("a.test"))),
		other("name-only-other-type", "a server_name extension without a host_name; OpenSSL refuses it", "", twice(nameOfType(7, "a.test"))),
		other("name-underscore", "a name with an underscore", "a_b.test", named("a_b.test")),
		other("name-a-label", "an internationalised name as A-label", "xn--bcher-kva.test", named("xn--bcher-kva.test")),
		other("name-longest", "a name of 253 bytes with labels of 63", longest, named(longest)),
		bad("name-too-long", "a name of 254 bytes", "server-name", named("a"+longest)),
		bad("name-label-too-long", "a label of 64 bytes", "server-name", named(label+"a.test")),
		bad("name-empty", "an empty name", "server-name", named("")),
		bad("name-dot", "a dot alone", "server-name", named(".")),
		bad("name-empty-label", "an empty label", "server-name", named("a..test")),
		bad("name-two-dots", "two trailing dots", "server-name", named("a.test..")),
		bad("name-nul", "a.test, NUL, .evil.test: two names in one", "server-name", named("a.test\x00.evil.test")),
		bad("name-space", "a space in the name", "server-name", named("a.test evil.test")),
		bad("name-newline", "a line break in the name", "server-name", named("a.test\r\nx: y")),
		bad("name-port", "a name with a port", "server-name", named("a.test:443")),
		bad("name-u-label", "an internationalised name that is not an A-label", "server-name", named("bücher.test")),
		bad("name-star", "a wildcard as name", "server-name", named("*.test")),
		bad("name-hyphen", "a hyphen alone, which a route map could take for its pattern", "server-name", named("-")),
		bad("name-ipv4", "an IPv4 literal", "server-name", named("127.0.0.1")),
		bad("name-ipv6", "an IPv6 literal", "server-name", named("::1")),
		bad("names-two", "two host_name entries, a.test first", "server-names", twice(hostName("a.test"), hostName("evil.test"))),
		bad("names-two-same", "the same host_name twice", "server-names", twice(hostName("a.test"), hostName("a.test"))),
		bad("names-none", "an empty list of names", "server-name", twice()),
		bad("names-twice", "two server_name extensions", "duplicate-extension", whole(modern("a.test").and(serverName("evil.test")).bytes())),
		bad("names-twice-same", "the same server_name extension twice", "duplicate-extension", whole(modern("a.test").and(serverName("a.test")).bytes())),
	}
}

func recordCases() []hellotest.Case {
	msg := modern("a.test").bytes()
	half := len(msg) / 2
	between := func(rec []byte) []byte {
		return join(record(22, 0x0301, msg[:half]), rec, record(22, 0x0301, msg[half:]))
	}
	return []hellotest.Case{
		bad("record-empty", "an empty record between the two of the hello", "empty-record", between(record(22, 0x0301, nil))),
		bad("record-empty-first", "an empty record before the hello", "empty-record", join(record(22, 0x0301, nil), whole(msg))),
		bad("record-alert-inside", "a warning alert between the two records of the hello", "interleaved", between(record(21, 0x0301, []byte{1, 90}))),
		bad("record-ccs-inside", "a change_cipher_spec between the two records of the hello", "interleaved", between(record(20, 0x0301, []byte{1}))),
		bad("record-data-inside", "an application data record between the two of the hello", "interleaved", between(record(23, 0x0301, []byte("data")))),
		bad("record-version-inside", "a second record of major version 2", "record-version",
			join(record(22, 0x0301, msg[:half]), record(22, 0x0201, msg[half:]))),
		bad("record-too-large", "a record of 16385 bytes", "record-too-large", record(22, 0x0301, modern("a.test").padded(16<<10+1).bytes())),
		bad("record-second-hello", "a second ClientHello, for another name, in the same record", "trailing",
			record(22, 0x0301, join(msg, modern("evil.test").bytes()))),
		bad("record-byte-behind", "one byte behind the ClientHello in its second record", "trailing", records(join(msg, []byte{0}), half, 1<<14)),
	}
}

func messageCases() []hellotest.Case {
	m := modern("a.test")
	msg := m.bytes()
	relength := func(delta int) []byte {
		b := bytes.Clone(msg)
		b[2], b[3] = byte((len(b)-4+delta)>>8), byte(len(b)-4+delta)
		return b
	}
	at := func(offset int, v byte) []byte {
		b := bytes.Clone(msg)
		b[offset] = v
		return whole(b)
	}
	longSession, noSuites, oddSuites, noCompression := m, m, m, m
	longSession.session = make([]byte, 33)
	noSuites.suites = nil
	oddSuites.suites = m.suites[:7]
	noCompression.compression = nil
	extensionsLength := 4 + 2 + 32 + 1 + 32 + 2 + len(m.suites) + 2
	return []hellotest.Case{
		bad("message-short", "a message length one too small for the extensions", "trailing", whole(relength(-1))),
		bad("message-short-cut", "a message that ends one byte before its extensions do", "length", whole(relength(-1)[:len(msg)-1])),
		bad("message-byte-behind", "one byte behind the extensions, within the message", "length", whole(append(relength(1), 0))),
		bad("message-tiny", "a ClientHello of four bytes", "length", whole(handshake(1, []byte{3, 3, 0, 0}))),
		bad("message-empty", "a ClientHello without body", "length", whole(handshake(1, nil))),
		bad("message-extensions-long", "an extensions length that runs over the end", "length", at(extensionsLength+1, msg[extensionsLength+1]+1)),
		bad("message-extensions-short", "an extensions length that leaves bytes behind", "length", at(extensionsLength+1, msg[extensionsLength+1]-1)),
		bad("message-session-33", "a session id of 33 bytes", "bounds", whole(longSession.bytes())),
		bad("message-suites-none", "no cipher suite", "bounds", whole(noSuites.bytes())),
		bad("message-suites-odd", "an odd number of bytes of cipher suites", "length", whole(oddSuites.bytes())),
		bad("message-compression-none", "no compression method", "bounds", whole(noCompression.bytes())),
		bad("message-server-hello", "a ServerHello from a client", "not-client-hello", whole(handshake(2, m.body()))),
		bad("message-finished", "another handshake message than a ClientHello", "not-client-hello", whole(handshake(20, make([]byte, 32)))),
	}
}

func extensionCases() []hellotest.Case {
	m := modern("a.test")
	changed := func(typ uint16, data []byte) []byte { return whole(m.with(extension{typ, data}).bytes()) }
	entry := hostName("a.test")
	long := bytes.Clone(entry)
	long[2]++
	short := bytes.Clone(entry)
	short[2]--
	psk := extension{41, join(vec16(join(vec16(digest("ticket")), []byte{0, 0, 0, 1})), vec16(vec8(digest("binder"))))}
	return []hellotest.Case{
		good("psk-last", "pre_shared_key as the last extension", whole(m.and(psk).bytes())),
		bad("psk-not-last", "pre_shared_key before another extension", "pre-shared-key", whole(m.and(psk, extension{21, nil}).bytes())),
		bad("lie-name-long", "a name length that runs over the end of its list", "length", changed(0, vec16(long))),
		bad("lie-name-short", "a name length that leaves a byte behind, which begins no entry", "length", changed(0, vec16(short))),
		bad("lie-list-long", "a name list length that runs over the end of its extension", "length", changed(0, join([]byte{0, 10}, entry))),
		bad("lie-list-short", "a name list that leaves a byte behind in its extension", "length", changed(0, join(vec16(entry), []byte{0}))),
		bad("lie-list-hides-name", "a second name behind the name list, within the extension", "length", changed(0, join(vec16(entry), vec16(hostName("evil.test"))))),
		bad("lie-name-bare", "an empty server_name extension, as only servers send it", "length", changed(0, nil)),
		bad("lie-alpn", "a protocol name that runs over the end of the ALPN list", "length", changed(16, []byte{0, 3, 3, 'h', '2'})),
		bad("lie-versions-odd", "an odd number of bytes of versions", "length", changed(43, []byte{3, 3, 4, 3})),
		bad("lie-groups", "a byte behind the list of groups", "length", changed(10, []byte{0, 2, 0, 0x1d, 0})),
		bad("lie-key-share", "a key share that runs over the end of the list", "length", changed(51, []byte{0, 5, 0, 0x1d, 0, 32, 1})),
		bad("empty-alpn", "an ALPN list without protocol", "bounds", changed(16, []byte{0, 0})),
		bad("empty-protocol", "an empty protocol name", "bounds", changed(16, []byte{0, 1, 0})),
		bad("empty-versions", "supported_versions without version", "bounds", changed(43, []byte{0})),
		bad("empty-key-share", "an empty key share", "bounds", changed(51, []byte{0, 4, 0, 0x1d, 0, 0})),
		bad("duplicate-extension", "an unknown extension twice", "duplicate-extension", whole(m.and(extension{0x1234, nil}, extension{0x1234, nil}).bytes())),
	}
}

func foreignCases() []hellotest.Case {
	hello := whole(modern("a.test").bytes())
	// RFC 5246 Appendix E.2: length, type 1, version, lengths of suites, session id
	// and challenge, then these.
	sslv2 := join([]byte{1, 3, 1, 0, 6, 0, 0, 0, 16}, []byte{0, 0, 0x2f, 0, 0, 0x35}, digest("challenge")[:16])
	return []hellotest.Case{
		bad("plain-http", "an HTTP request in plain text", "not-tls", []byte("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")),
		bad("plain-ssh", "the banner of an SSH client", "not-tls", []byte("SSH-2.0-OpenSSH_9.2\r\n")),
		bad("garbage", "random bytes", "not-tls", digest("garbage")),
		bad("garbage-high-bit", "bytes that begin as an SSLv2 record and are none", "not-tls", []byte{0x9a, 0x11, 0x00, 0xff, 0xff}),
		bad("sslv2", "an SSLv2-compatible hello", "sslv2", join([]byte{0x80, byte(len(sslv2))}, sslv2)),
		bad("dtls", "a handshake record of DTLS 1.2", "dtls", join([]byte{22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0}, vec16(modern("a.test").bytes()))),
		bad("record-major-2", "a handshake record of major version 2", "not-tls", join([]byte{22, 2}, hello[2:])),
		bad("record-alert-first", "an alert before the hello", "not-tls", join(record(21, 0x0301, []byte{1, 0}), hello)),
		bad("record-data-first", "an application data record", "not-tls", record(23, 0x0303, digest("data"))),
	}
}
