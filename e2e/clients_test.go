//go:build e2e

package e2e_test

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// house is a balancer with one host in each mode, in front of real web servers.
type house struct {
	*balancer
	addr     string
	backend  *lab.Authority // issued the backends' certificates
	edge     *lab.Authority // issued the balancer's
	edgeFile string
	both     string // file with both authorities
}

// hosts of a house, by mode.
const (
	passHost    = "pass.test"
	plainHost   = "plain.test"
	encryptHost = "encrypt.test"
)

// newHouse starts nginx with a TLS server for h2 and http/1.1 and a plain one for HTTP/1.1, and snicket in front.
func newHouse(t *testing.T) house {
	t.Helper()
	h := house{
		addr: lab.FreeAddr(t), backend: lab.NewAuthority(t, "backend authority"), edge: lab.NewAuthority(t, "edge authority"),
	}
	h.edgeFile = h.edge.WriteCA(t)
	h.both = lab.WriteFile(t, filepath.Join(t.TempDir(), "both.pem"), append(h.edge.PEM(), h.backend.PEM()...))
	secure, plain := lab.FreeAddr(t), lab.FreeAddr(t)
	cert, key := h.backend.WriteServer(t, passHost, encryptHost)
	startNginx(t, fmt.Sprintf(`
http {
	access_log off;
	server {
		listen %s ssl http2;
		ssl_certificate %s;
		ssl_certificate_key %s;
		ssl_protocols TLSv1.2 TLSv1.3;
		location / { return 200 "secure $host $ssl_server_name $server_protocol\n"; }
	}
	server {
		listen %s;
		location / { return 200 "plain $host $server_protocol\n"; }
	}
}
`, secure, cert, key, plain), secure, plain)
	edgeCert, edgeKey := h.edge.WriteServer(t, plainHost, encryptHost)
	h.balancer = run(t, listener(h.addr)+
		passthrough(passHost, "pass", []string{secure})+
		terminated(plainHost, "plain", edgeCert, edgeKey, []string{plain})+
		reencrypted(encryptHost, "encrypt", edgeCert, edgeKey, h.backend.WriteCA(t), []string{secure}))
	return h
}

func (h house) url(t *testing.T, host string) string {
	return "https://" + host + ":" + port(t, h.addr) + "/"
}

func (h house) resolve(t *testing.T, host string) []string {
	return []string{"--resolve", host + ":" + port(t, h.addr) + ":127.0.0.1"}
}

// curl asks for host with further arguments and returns the body and what -w says.
func (h house) curl(t *testing.T, host string, args ...string) string {
	t.Helper()
	all := append([]string{"-sS", "--max-time", "20", "--cacert", h.both}, h.resolve(t, host)...)
	return mustTool(t, "", "curl", append(append(all, args...), h.url(t, host))...)
}

// TestCurl asks by curl in all three modes, by HTTP/1.1, by HTTP/2 and by default. A default curl offers h2; in front
// of a plain HTTP/1.1 backend it must be given HTTP/1.1, in front of a TLS one what that backend speaks.
func TestCurl(t *testing.T) {
	h := newHouse(t)
	tests := []struct {
		host string
		args []string
		want string
	}{
		{passHost, nil, "secure pass.test pass.test HTTP/2.0"},
		{passHost, []string{"--http1.1"}, "secure pass.test pass.test HTTP/1.1"},
		{passHost, []string{"--http2"}, "secure pass.test pass.test HTTP/2.0"},
		{plainHost, nil, "plain plain.test HTTP/1.1"},
		{plainHost, []string{"--http1.1"}, "plain plain.test HTTP/1.1"},
		{plainHost, []string{"--http2"}, "plain plain.test HTTP/1.1"},
		{encryptHost, []string{"--http1.1"}, "secure encrypt.test encrypt.test HTTP/1.1"},
		{encryptHost, []string{"--http2"}, "secure encrypt.test encrypt.test HTTP/2.0"},
	}
	for _, tt := range tests {
		for _, version := range []string{"1.2", "1.3"} {
			t.Run(fmt.Sprintf("%s %v TLS %s", tt.host, tt.args, version), func(t *testing.T) {
				args := append([]string{"--tlsv" + version, "--tls-max", version}, tt.args...)
				if got := strings.TrimSpace(h.curl(t, tt.host, args...)); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		}
	}
}

// TestCertificates shows whose certificate the client sees: the backend's own in passthrough, Snicket's otherwise.
func TestCertificates(t *testing.T) {
	h := newHouse(t)
	for host, want := range map[string]string{
		passHost: "backend authority", plainHost: "edge authority", encryptHost: "edge authority",
	} {
		conf := &tls.Config{ServerName: host, RootCAs: h.backend.Pool()}
		if want == "edge authority" {
			conf.RootCAs = h.edge.Pool()
		}
		c := dialTLS(t, h.addr, conf)
		if got := c.ConnectionState().PeerCertificates[0].Issuer.CommonName; got != want {
			t.Errorf("%s: got a certificate of the %s, want the %s", host, got, want)
		}
	}
}

// TestNghttp speaks HTTP/2 by nghttp where the backend does.
func TestNghttp(t *testing.T) {
	h := newHouse(t)
	for _, host := range []string{passHost, encryptHost} {
		lab.Require(t, "nghttp", "nghttp2-client")
		// nghttp resolves the name of the URL; the one of the header becomes the SNI.
		out := mustTool(t, "", "nghttp", "-v", "-H", ":authority: "+host, "https://"+h.addr+"/")
		if !strings.Contains(out, "negotiated protocol: h2") && !strings.Contains(out, "The negotiated protocol: h2") {
			t.Errorf("%s: h2 was not negotiated:\n%s", host, out)
		}
		if want := "secure " + host; !strings.Contains(out, want) {
			t.Errorf("%s: no %q in the answer:\n%s", host, want, out)
		}
	}
	// A plain backend speaks HTTP/1.1: h2 is not negotiated, and nghttp says so.
	out, _ := tool(t, "", "nghttp", "-v", "-H", ":authority: "+plainHost, "https://"+h.addr+"/")
	if strings.Contains(out, "negotiated protocol: h2") {
		t.Errorf("%s: h2 was negotiated in front of a plain backend:\n%s", plainHost, out)
	}
}

// TestOpenSSL connects by openssl s_client: both versions, with a name and without, with ALPN.
func TestOpenSSL(t *testing.T) {
	h := newHouse(t)
	request := func(host string) string { return "GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n" }
	for _, host := range []string{passHost, plainHost, encryptHost} {
		for _, version := range []string{"-tls1_2", "-tls1_3"} {
			t.Run(host+version, func(t *testing.T) {
				out := mustTool(t, request(host), "openssl", "s_client", "-connect", h.addr, "-servername", host,
					version, "-CAfile", h.both, "-verify_return_error", "-alpn", "http/1.1", "-ign_eof")
				if !strings.Contains(out, " "+host) || !strings.Contains(out, "HTTP/1.1 200") {
					t.Errorf("no answer for %s:\n%s", host, out)
				}
			})
		}
	}
	t.Run("no name", func(t *testing.T) {
		mark := h.Mark()
		out, status := tool(t, "", "openssl", "s_client", "-connect", h.addr, "-noservername")
		if status == 0 || !strings.Contains(out, "alert number 112") {
			t.Errorf("got status %d, want a failure by alert 112:\n%s", status, out)
		}
		h.waitRecord(mark, record{"outcome": "no-route", "sni": "-"})
	})
	t.Run("unknown name", func(t *testing.T) {
		mark := h.Mark()
		out, status := tool(t, "", "openssl", "s_client", "-connect", h.addr, "-servername", "other.test")
		if status == 0 || !strings.Contains(out, "alert number 112") {
			t.Errorf("got status %d, want a failure by alert 112:\n%s", status, out)
		}
		h.waitRecord(mark, record{"outcome": "no-route", "sni": "other.test"})
	})
}

// TestGo connects by Go's own client, HTTP/2 where it is spoken, and sees session tickets honoured.
func TestGo(t *testing.T) {
	h := newHouse(t)
	for _, host := range []string{passHost, plainHost, encryptHost} {
		pool := h.edge.Pool()
		if host == passHost {
			pool = h.backend.Pool()
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: host}, ForceAttemptHTTP2: true}
		defer transport.CloseIdleConnections()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+h.addr+"/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = host
		answer, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: got %s, want 200", host, answer.Status)
		}
	}
	conf := h.edge.Client(plainHost)
	conf.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for i, want := range []bool{false, true} {
		mark := h.Mark()
		c := dialTLS(t, h.addr, conf)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", plainHost)
		c.Read(make([]byte, 1)) // the tickets come before the answer
		if got := c.ConnectionState().DidResume; got != want {
			t.Errorf("connection %d: got resumed %v, want %v", i+1, got, want)
		}
		c.Close()
		if r := h.waitRecord(mark, record{"sni": plainHost}); r["tls_version"] == "-" || r["cipher"] == "-" {
			t.Errorf("record of a terminated session lacks version or cipher: %v", r)
		}
	}
}

// TestScripts connects by the TLS of Python, Node and Java.
func TestScripts(t *testing.T) {
	h := newHouse(t)
	for _, host := range []string{passHost, plainHost, encryptHost} {
		t.Run("python "+host, func(t *testing.T) {
			out := mustTool(t, "", "python3", "-c", `
import socket, ssl, sys
host, port, ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
with context.wrap_socket(socket.create_connection(("127.0.0.1", int(port))), server_hostname=host) as s:
    s.sendall(b"GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host.encode())
    answer = b""
    while chunk := s.recv(65536):
        answer += chunk
print(answer.decode())
`, host, port(t, h.addr), h.both)
			wantAnswer(t, out, host)
		})
		t.Run("node "+host, func(t *testing.T) {
			out := mustTool(t, "", "node", "-e", `
const [host, port, ca] = process.argv.slice(1);
const s = require("tls").connect({ host: "127.0.0.1", port, servername: host, ca: require("fs").readFileSync(ca, "utf8").split(/(?<=-----END CERTIFICATE-----\n)/) });
s.on("secureConnect", () => s.write("GET / HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n"));
s.on("data", (d) => process.stdout.write(d));
s.on("error", (e) => { console.error(e); process.exit(1); });
`, host, port(t, h.addr), h.both)
			wantAnswer(t, out, host)
		})
		t.Run("java "+host, func(t *testing.T) {
			if _, err := os.Stat("/usr/bin/java"); err != nil {
				t.Log("no Java on this machine: it is the one client that may be absent")
				return
			}
			file := lab.WriteFile(t, filepath.Join(t.TempDir(), "Get.java"), []byte(javaClient))
			out := mustTool(t, "", "java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", file, host, port(t, h.addr), h.both)
			wantAnswer(t, out, host)
		})
	}
}

func wantAnswer(t *testing.T, out, host string) {
	t.Helper()
	if !strings.Contains(out, "HTTP/1.1 200") || !strings.Contains(out, " "+host) {
		t.Errorf("no answer for %s:\n%s", host, out)
	}
}

const javaClient = `
import java.io.*;
import java.net.*;
import java.security.KeyStore;
import java.security.cert.*;
import java.util.*;
import javax.net.ssl.*;

class Get {
	public static void main(String[] args) throws Exception {
		KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
		store.load(null, null);
		try (InputStream in = new FileInputStream(args[2])) {
			for (Certificate c : CertificateFactory.getInstance("X.509").generateCertificates(in))
				store.setCertificateEntry("ca" + store.size(), c);
		}
		TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
		trust.init(store);
		SSLContext context = SSLContext.getInstance("TLS");
		context.init(null, trust.getTrustManagers(), null);
		Socket tcp = new Socket("127.0.0.1", Integer.parseInt(args[1]));
		SSLSocket s = (SSLSocket) context.getSocketFactory().createSocket(tcp, args[0], tcp.getPort(), true);
		SSLParameters p = s.getSSLParameters();
		p.setEndpointIdentificationAlgorithm("HTTPS");
		s.setSSLParameters(p);
		s.getOutputStream().write(("GET / HTTP/1.1\r\nHost: " + args[0] + "\r\nConnection: close\r\n\r\n").getBytes());
		s.getInputStream().transferTo(System.out);
	}
}
`
