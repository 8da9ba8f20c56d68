package sni_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"

	"github.com/snicketlb/snicket/sni"
)

// A balancer peeks at a connection: it reads until the hello is complete, and
// keeps what it has read to send it on.
func ExampleParser() {
	client, server := net.Pipe()
	go func() {
		defer client.Close()
		client.Write(clientHello("www.example.com", "h2"))
	}()

	var (
		p   sni.Parser // may serve one connection after the other
		buf = make([]byte, 0, 4096)
	)
	for {
		n, err := server.Read(buf[len(buf):min(cap(buf), len(buf)+100)]) // in small pieces
		buf = buf[:len(buf)+n]
		hello, perr := p.Parse(buf)
		if perr == nil {
			fmt.Println(hello.ServerName, hello.ALPN, hello.SupportsTLS13(), hello.Len == len(buf))
			break
		}
		if !errors.Is(perr, sni.ErrMore) || err != nil {
			panic(perr)
		}
	}
	p.Reset(0) // ready for the next one

	// Output: www.example.com [h2] true true
}

func ExampleParse() {
	for _, stream := range [][]byte{
		clientHello("www.example.com"),
		clientHello("www.example.com")[:100],
		[]byte("GET / HTTP/1.1\r\n"),
	} {
		hello, err := sni.Parse(stream, 0)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println("hello for", hello.ServerName)
	}

	// Output:
	// hello for www.example.com
	// sni: more bytes needed
	// sni: not TLS: first byte 0x47
}

func ExampleMap() {
	pools, err := sni.NewMap(maps.All(map[string]string{
		"www.example.com":       "web",
		"*.example.com":         "apps",
		"**.static.example.com": "files",
		"*":                     "sorry",
	}))
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"www.example.com", "mail.example.com", "a.b.static.example.com", "example.org", ""} {
		pattern, pool, ok := pools.Lookup(name)
		fmt.Printf("%q: %q %q %v\n", name, pattern, pool, ok)
	}

	// Output:
	// "www.example.com": "www.example.com" "web" true
	// "mail.example.com": "*.example.com" "apps" true
	// "a.b.static.example.com": "**.static.example.com" "files" true
	// "example.org": "*" "sorry" true
	// "": "" "" false
}

func ExampleCheckPattern() {
	for _, pattern := range []string{"WWW.Example.com.", "www.*.com", "bücher.example"} {
		normal, err := sni.CheckPattern(pattern)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(normal)
	}

	// Output:
	// www.example.com
	// pattern "www.*.com": a star stands for whole labels at the beginning: "*.example.com", "**.example.com" or "*"
	// pattern "bücher.example": "bücher.example" is not ASCII: write its A-label, which begins with "xn--"
}

// A client that asks for a name nobody serves is told so.
func ExampleAppendAlert() {
	hello, err := sni.Parse(clientHello("nobody.example.com"), 0)
	if err != nil {
		panic(err)
	}
	alert := sni.AlertUnrecognizedName
	fmt.Printf("%s: % x\n", alert, sni.AppendAlert(nil, hello, alert))

	// Output: unrecognized_name: 15 03 03 00 02 02 70
}

func ExampleHello_JA4() {
	hello := sni.Hello{
		Versions:         []uint16{sni.VersionTLS13, sni.VersionTLS12},
		CipherSuites:     []uint16{0x1301, 0x1302, 0x1303},
		Extensions:       []uint16{0, 10, 13, 16, 43, 51},
		SignatureSchemes: []uint16{0x0403, 0x0804},
		ALPN:             []string{"h2", "http/1.1"},
	}
	fmt.Println(hello.JA4())

	// Output: t13d0306h2_55b375c5d22e_e12c865f31a5
}

// clientHello returns what crypto/tls sends first.
func clientHello(name string, alpn ...string) []byte {
	conn := &script{in: bytes.NewReader(nil)}
	err := tls.Client(conn, &tls.Config{ServerName: name, NextProtos: alpn}).Handshake()
	if !errors.Is(err, io.EOF) {
		panic(err)
	}
	return conn.out.Bytes()
}
