//go:build e2e

package e2e_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/sni"
)

// newFront is a balancer with a key for hellos within hellos for front.test, and what ech-keygen printed for the DNS of
// secret.test.
func newFront(t *testing.T) (b *balancer, addr, printed string, edge *lab.Authority) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "front.pem")
	printed = mustTool(t, "", program(t, "cmd/snicket"), "ech-keygen", "--public-name", "front.test", "-o", file, "secret.test")
	edge = lab.NewAuthority(t, "edge")
	cert, key := edge.WriteServer(t, "front.test", "secret.test")
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "<p>this is %s</p>", r.Host)
	}))
	t.Cleanup(backend.Close)
	addr = lab.FreeAddr(t)
	backends := []string{backend.Listener.Addr().String()}
	b = run(t, listener(addr)+terminated("front.test", "front", cert, key, backends)+
		terminated("secret.test", "secret", cert, key, backends)+fmt.Sprintf("[tls]\nech_keys = [%q]\n", file))
	return b, addr, printed, edge
}

// TestECHByItsRecord gives a client what ech-keygen prints for DNS.
func TestECHByItsRecord(t *testing.T) {
	b, addr, printed, edge := newFront(t)
	_, record64, found := strings.Cut(printed, "secret.test. 3600 IN HTTPS 1 . ech=")
	if !found {
		t.Fatalf("no record in %q", printed)
	}
	list, err := base64.StdEncoding.DecodeString(strings.TrimSpace(record64))
	if err != nil {
		t.Fatal(err)
	}
	conf := edge.Client("secret.test")
	conf.EncryptedClientHelloConfigList = list
	mark := b.Mark()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: conf}}
	defer client.CloseIdleConnections()
	answer, err := client.Get("https://" + addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if !answer.TLS.ECHAccepted {
		t.Error("ECH was not accepted")
	}
	client.CloseIdleConnections()
	b.waitRecord(mark, record{"sni": "secret.test", "route": "secret.test", "tls_version": "1.3"})
}

// TestECHMadeUp has a browser come without the key, which then makes up an inner hello (GREASE): it is served by the
// name outside.
func TestECHMadeUp(t *testing.T) {
	b, addr, _, _ := newFront(t)
	lab.Require(t, "chromium", "chromium")
	profile := filepath.Join(t.TempDir(), "profile")
	browse := func(addr string) (page string, err error) {
		cmd := exec.CommandContext(t.Context(), "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
			"--user-data-dir="+profile, "--ignore-certificate-errors",
			"--host-resolver-rules=MAP front.test 127.0.0.1, MAP * ~NOTFOUND", // no other address is contacted
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
			"--dump-dom", fmt.Sprintf("https://front.test:%s/", port(t, addr)))
		cmd.WaitDelay = lab.Patience
		out, err := cmd.Output()
		return string(out), err
	}

	hellos := make(chan bool, 64) // whether each holds an inner one
	looker := lab.Serve(t, func(c *lab.Conn) {
		first := make([]byte, 64<<10)
		for n := 0; n < len(first); {
			m, err := c.Read(first[n:])
			if err != nil {
				return
			}
			n += m
			if h, err := sni.Parse(first[:n], len(first)); err == nil {
				hellos <- h.ECH
				return
			}
		}
	}, lab.Options{})
	_, _ = browse(looker.Addr()) // nobody answers there
	select {
	case got := <-hellos:
		if !got {
			t.Fatal("the browser makes up no inner hello")
		}
	default:
		t.Fatal("the browser did not come")
	}

	mark := b.Mark()
	page, err := browse(addr)
	if err != nil || !strings.Contains(page, "this is front.test") {
		t.Errorf("got %v, page %q", err, page)
	}
	b.waitRecord(mark, record{"sni": "front.test", "route": "front.test", "tls_version": "1.3"})
}
