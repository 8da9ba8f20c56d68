// Sniff shows the server name, the protocols and the fingerprint that TLS clients
// send, by package sni alone:
//
//	go run ./examples/sniff 127.0.0.1:8443
//	curl https://127.0.0.1:8443/   # in another terminal
//
// It refuses every client with an alert, as it has no certificate to show.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/snicketlb/snicket/sni"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sniff ADDRESS")
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "sniff:", serve(os.Args[1]))
	os.Exit(1)
}

// serve runs until it fails.
func serve(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("listening on", l.Addr())
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() { // ends by its deadline
			defer conn.Close()
			if err := sniff(conn); err != nil {
				fmt.Println(conn.RemoteAddr(), err)
			}
		}()
	}
}

// sniff reads one hello, however the client cuts it into records and segments.
func sniff(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	var parser sni.Parser
	var received []byte
	chunk := make([]byte, 4096)
	for {
		n, err := conn.Read(chunk)
		if err != nil {
			return err
		}
		received = append(received, chunk[:n]...)
		hello, err := parser.Parse(received)
		switch {
		case errors.Is(err, sni.ErrMore):
			continue
		case errors.Is(err, sni.ErrNotTLS):
			return err // would not understand an alert
		case err != nil:
			_, writeErr := conn.Write(sni.AppendAlert(nil, nil, sni.AlertDecodeError))
			return errors.Join(err, writeErr)
		}
		fmt.Printf("%s name=%q alpn=%q ja4=%s bytes=%d\n",
			conn.RemoteAddr(), hello.ServerName, hello.ALPN, hello.JA4(), hello.Len)
		_, err = conn.Write(sni.AppendAlert(nil, hello, sni.AlertUnrecognizedName))
		return err
	}
}
