package demo_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/server/demo"
)

func TestOnce(t *testing.T) {
	lab.Leaks(t)
	var out, log bytes.Buffer
	loops := 0
	err := demo.Run(context.Background(), demo.Options{
		Stdout: &out, Stderr: &log, Once: true, Started: func(n int) { loops = n },
	})
	if err != nil {
		t.Fatalf("got %v:\n%s%s", err, out.String(), log.String())
	}
	want := []string{
		"pass.demo.test", "certificate:  the passthrough backend", "TLS 1.3 for pass.demo.test",
		"term.demo.test", "certificate:  snicket demo", "plain text",
		"both.demo.test", "certificate:  snicket demo", "TLS 1.3 for both.internal.test",
		"curl --cacert", "curl --cacert", "curl --cacert",
	}
	rest := out.String()
	for _, w := range want {
		_, after, found := strings.Cut(rest, w)
		if !found {
			t.Fatalf("got no %q in its place in:\n%s", w, out.String())
		}
		rest = after
	}
	if loops == 0 {
		t.Error("got no number of loops")
	}
	file := regexp.MustCompile(`--cacert (\S+)`).FindStringSubmatch(out.String())[1]
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("got %v, want %s gone", err, file)
	}
}

// The printed lines name a file, an address and a URL that work, and a session
// writes its line.
func TestPrintedLines(t *testing.T) {
	lab.Leaks(t)
	reader, writer := io.Pipe()
	defer reader.Close()
	signals, done := make(chan os.Signal, 1), make(chan error, 1)
	go func() {
		err := demo.Run(context.Background(), demo.Options{Stdout: writer, Stderr: io.Discard, Signals: signals})
		writer.CloseWithError(io.EOF)
		done <- err
	}()
	var shown strings.Builder
	read := func(until string) {
		b := make([]byte, 4096)
		for !strings.Contains(shown.String(), until) {
			n, err := reader.Read(b)
			if err != nil {
				t.Fatalf("%v, before %q in:\n%s", err, until, shown.String())
			}
			shown.Write(b[:n])
		}
	}
	read("Ctrl-C ends it")
	lines := regexp.MustCompile(`curl --cacert (\S+) --resolve (\S+):(\d+):(\S+) (\S+)`).FindAllStringSubmatch(shown.String(), -1)
	if len(lines) != 3 {
		t.Fatalf("got %d lines, want 3:\n%s", len(lines), shown.String())
	}
	for _, l := range lines {
		ca, err := os.ReadFile(l[1])
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(ca)
		client := http.Client{Timeout: lab.Patience, Transport: &http.Transport{
			DisableKeepAlives: true,
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(l[4], l[3]))
			},
		}}
		answer, err := client.Get(l[5])
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || !strings.Contains(string(body), "answers for "+l[2]) {
			t.Errorf("got %q, %v from %s", body, err, l[2])
		}
		read(fmt.Sprintf("sni=%q", l[2]))
	}
	signals <- syscall.SIGTERM
	go io.Copy(io.Discard, reader)
	if err := <-done; err != nil {
		t.Errorf("got %v, want nil", err)
	}
}
