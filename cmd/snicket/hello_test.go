package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// A client of hello --listen is shown and refused with an alert that it can read;
// one that sends something else is told of, and the next is served.
func TestListenForHellos(t *testing.T) {
	lab.Leaks(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	defer reader.Close()
	var shown bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- listenForHellos(ctx, "127.0.0.1:0", &helloPrinter{w: &shown}, writer) }()
	var address string
	if _, err := fmt.Fscanf(reader, "listening on %s\n", &address); err != nil {
		t.Fatal(err)
	}

	stranger, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := io.WriteString(stranger, "GET / HTTP/1.1\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 200)
	if n, err := reader.Read(line); err != nil || !strings.Contains(string(line[:n]), "not TLS") {
		t.Errorf("got %q, %v; want it told that this is not TLS", line[:n], err)
	}

	_, err = tls.Dial("tcp", address, &tls.Config{ServerName: "www.example.com"})
	if err == nil || !strings.Contains(err.Error(), "user canceled") {
		t.Errorf("got %v, want the alert user canceled", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	for _, want := range []string{"client ", "sni  ", "www.example.com", "ja4 "} {
		if !strings.Contains(shown.String(), want) {
			t.Errorf("got no %q in:\n%s", want, shown.String())
		}
	}
}
