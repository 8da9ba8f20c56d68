//go:build e2e

package e2e_test

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// pki has openssl make an authority for clients, and what it issues: good, revoked, expired, and elsewhere under another
// name; and a stranger of the same authority's name. It returns their directory.
func pki(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	lab.WriteFile(t, filepath.Join(dir, "ca.cnf"), []byte(`
[ca]
default_ca = d
[d]
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
certificate = ca.pem
private_key = ca.key
default_md = sha256
default_days = 2
default_crl_days = 2
policy = any
x509_extensions = client
[any]
commonName = supplied
[client]
extendedKeyUsage = clientAuth
subjectAltName = DNS:${ENV::HOST}
`))
	mustTool(t, "", "sh", "-c", `set -e; cd "$1"; : >index.txt; echo 1000 >serial; echo 01 >crlnumber
make() { openssl req "$@" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes 2>&1; }
issue() { export HOST=$2; make -keyout $1.key -out $1.csr -subj /CN=$1
  name=$1; shift 2; openssl ca -batch -notext -config ca.cnf -in $name.csr -out $name.pem "$@" 2>&1; }
make -x509 -keyout ca.key -out ca.pem -subj "/CN=clients" -addext keyUsage=critical,keyCertSign,cRLSign
make -x509 -keyout stranger.key -out stranger.pem -subj "/CN=clients" -addext extendedKeyUsage=clientAuth
issue good good.clients.test
issue revoked revoked.clients.test
issue elsewhere elsewhere.test
issue expired expired.clients.test -startdate 20200101000000Z -enddate 20200201000000Z
openssl ca -config ca.cnf -revoke revoked.pem 2>&1; openssl ca -config ca.cnf -gencrl -out ca.crl 2>&1
`, "sh", dir)
	return dir
}

// gate is a balancer that asks its clients for certificates, in front of a web server.
type gate struct {
	*balancer
	addr, pki string
	edgeCA    string
}

func newGate(t *testing.T, policy string) gate {
	t.Helper()
	g := gate{addr: lab.FreeAddr(t), pki: pki(t)}
	edge, backend := lab.NewAuthority(t, "edge authority"), lab.FreeAddr(t)
	g.edgeCA = edge.WriteCA(t)
	startNginx(t, fmt.Sprintf("http { server { listen %s; location / { return 200 \"let in\\n\"; } } }", backend), backend)
	cert, key := edge.WriteServer(t, "a.test")
	g.balancer = run(t, listener(g.addr)+fmt.Sprintf("[[routes]]\nhosts = [\"a.test\"]\nmode = \"terminate\"\nbackends = [%q]\n"+
		"[routes.tls]\ncertificates = [{ cert = %q, key = %q }]\n", backend, cert, key)+strings.ReplaceAll(policy, "PKI", g.pki))
	return g
}

// identity are curl's arguments, or openssl's, to be one of the pki.
func (g gate) identity(name string) []string {
	if name == "" {
		return nil
	}
	return []string{"--cert", filepath.Join(g.pki, name+".pem"), "--key", filepath.Join(g.pki, name+".key")}
}

func (g gate) curl(t *testing.T, args ...string) (string, int) {
	t.Helper()
	all := []string{"-sS", "--max-time", "20", "--cacert", g.edgeCA, "--resolve", "a.test:" + port(t, g.addr) + ":127.0.0.1"}
	return tool(t, "", "curl", append(append(all, args...), "https://a.test:"+port(t, g.addr)+"/")...)
}

// openssl asks by s_client, which waits for the answer.
func (g gate) openssl(t *testing.T, args ...string) (string, int) {
	t.Helper()
	all := []string{"s_client", "-connect", g.addr, "-servername", "a.test", "-CAfile", g.edgeCA, "-verify_return_error", "-ign_eof"}
	for _, arg := range args {
		all = append(all, strings.Replace(arg, "--", "-", 1))
	}
	return tool(t, "GET / HTTP/1.0\r\nHost: a.test\r\n\r\n", "openssl", all...)
}

// TestClientCertificates has curl and openssl show certificates of all kinds, made and revoked by openssl.
func TestClientCertificates(t *testing.T) {
	require := newGate(t, "client_ca = \"PKI/ca.pem\"\ncrl = \"PKI/ca.crl\"\nclient_names = [\"*.clients.test\"]\n")
	request := newGate(t, "client_ca = \"PKI/ca.pem\"\ncrl = \"PKI/ca.crl\"\nclient_auth = \"request\"\n")
	for _, tt := range []struct {
		name  string
		alert string // pattern, TLS 1.3
		old   string // TLS 1.2, if it differs
		error string // of the record
		asked string // client_verify where a certificate is requested
	}{
		{name: "good", asked: "ok"},
		{name: "", alert: "alert certificate required", old: "alert handshake failure", error: "client didn't provide a certificate", asked: "-"},
		{name: "stranger", alert: "alert bad certificate", error: "client certificate: signed by unknown authority", asked: "x509: certificate signed by unknown authority"},
		{name: "expired", alert: "alert bad certificate", error: "client certificate: has expired", asked: "x509: certificate has expired"},
		{name: "revoked", alert: "alert bad certificate", error: "client certificate: revoked (serial 1001)", asked: "revoked (serial 1001)"},
		{name: "elsewhere", alert: "alert bad certificate", error: "client certificate: its name is not among those allowed (elsewhere.test)", asked: "ok"},
	} {
		for _, version := range []string{"1.2", "1.3"} {
			clients := map[string]func(gate) (string, int){
				"curl": func(g gate) (string, int) {
					return g.curl(t, append([]string{"--tlsv" + version, "--tls-max", version}, g.identity(tt.name)...)...)
				},
				"openssl": func(g gate) (string, int) {
					return g.openssl(t, append([]string{"-tls" + strings.Replace(version, ".", "_", 1)}, g.identity(tt.name)...)...)
				},
			}
			for client, visit := range clients {
				t.Run(fmt.Sprintf("%s by %s %s", tt.name, client, version), func(t *testing.T) {
					cn := tt.name
					if cn == "" {
						cn = "-"
					}
					if cn == "stranger" {
						cn = "clients"
					}
					mark := require.Mark()
					out, status := visit(require)
					if tt.error == "" {
						if status != 0 || !strings.Contains(out, "let in") {
							t.Errorf("status %d:\n%s", status, out)
						}
						require.waitRecord(mark, record{"outcome": "ok", "client_cn": cn, "client_verify": "ok"})
					} else {
						alert := tt.alert
						if version == "1.2" && tt.old != "" {
							alert = tt.old
						}
						if status == 0 || strings.Contains(out, "let in") || !regexp.MustCompile(alert).MatchString(out) {
							t.Errorf("status %d, want %q:\n%s", status, alert, out)
						}
						if r := require.waitRecord(mark, record{"outcome": "client-tls-failed", "client_cn": cn}); !strings.Contains(r["error"], tt.error) {
							t.Errorf("error %q, want %q", r["error"], tt.error)
						}
					}
					mark = request.Mark()
					if out, status := visit(request); status != 0 || !strings.Contains(out, "let in") {
						t.Errorf("where it is requested: status %d:\n%s", status, out)
					}
					if r := request.waitRecord(mark, record{"outcome": "ok", "client_cn": cn}); !strings.HasPrefix(r["client_verify"], tt.asked) {
						t.Errorf("client_verify %q, want %q", r["client_verify"], tt.asked)
					}
				})
			}
		}
	}
}

// TestHandshakePolicy offers versions and groups by curl and openssl.
func TestHandshakePolicy(t *testing.T) {
	weak := []string{"-cipher", "DEFAULT@SECLEVEL=0"}
	for _, tt := range []struct {
		name, policy string
		args         []string // openssl's
		alert        string   // "": let in
		says         string   // what openssl says then
	}{
		{name: "1.0", args: append([]string{"-tls1"}, weak...), alert: "alert protocol version"},
		{name: "1.1", args: append([]string{"-tls1_1"}, weak...), alert: "alert protocol version"},
		{name: "1.2", args: []string{"-tls1_2"}, says: "Protocol  : TLSv1.2"},
		{name: "1.3", args: []string{"-tls1_3"}, says: "TLSv1.3"},
		{name: "without forward secrecy", args: []string{"-tls1_2", "-cipher", "kRSA"}, alert: "alert handshake failure"},
		{name: "CBC", args: []string{"-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES128-SHA"}, alert: "alert handshake failure"},
		{name: "finite field", args: []string{"-tls1_2", "-cipher", "kDHE"}, alert: "alert handshake failure"},
		{name: "modern 1.2", policy: "profile = \"modern\"\n", args: []string{"-tls1_2"}, alert: "alert protocol version"},
		{name: "modern 1.3", policy: "profile = \"modern\"\n", args: []string{"-tls1_3"}, says: "TLSv1.3"},
		{name: "max 1.2", policy: "max_version = \"1.2\"\n", args: []string{"-tls1_3"}, alert: "alert protocol version"},
		{name: "X25519", args: []string{"-groups", "X25519"}, says: "Server Temp Key: X25519"},
		{name: "P-521", args: []string{"-groups", "P-521"}, alert: "alert handshake failure"},
		{name: "P-521 allowed", policy: "curves = [\"P-521\"]\n", args: []string{"-groups", "X25519:P-521"}, says: "Server Temp Key: ECDH, secp521r1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate(t, tt.policy)
			mark := g.Mark()
			out, status := g.openssl(t, tt.args...)
			if tt.alert == "" {
				if status != 0 || !strings.Contains(out, "let in") || !strings.Contains(out, tt.says) {
					t.Errorf("status %d, want %q:\n%s", status, tt.says, out)
				}
				return
			}
			if status == 0 || !strings.Contains(out, tt.alert) {
				t.Errorf("status %d, want %q:\n%s", status, tt.alert, out)
			}
			g.waitRecord(mark, record{"outcome": "client-tls-failed"})
		})
	}
}

// subTLV is what an SSL TLV of a PROXY v2 header over IPv4 has of a type.
func subTLV(t *testing.T, header []byte, kind byte) string {
	t.Helper()
	find := func(b []byte, kind byte) []byte {
		for len(b) >= 3 {
			n := int(binary.BigEndian.Uint16(b[1:]))
			if b[0] == kind {
				return b[3 : 3+n]
			}
			b = b[3+n:]
		}
		return nil
	}
	ssl := find(header[16+12:16+int(binary.BigEndian.Uint16(header[14:]))], 0x20)
	if len(ssl) < 5 {
		t.Fatalf("no SSL TLV in %q", header)
	}
	return string(find(ssl[5:], kind))
}

// TestSignatureScheme compares what a backend is told of the signature with what openssl says that it has seen.
func TestSignatureScheme(t *testing.T) {
	ca := lab.NewAuthority(t, "edge")
	ecCert, ecKey := ca.WriteServer(t, "a.test")
	rsaCert, rsaKey := lab.WriteCertificate(t, ca.Issue(t, lab.Certificate{Names: []string{"a.test"}, RSA: true}))
	heard := lab.NewRecorder()
	backend, addr := lab.Serve(t, lab.Announce("heard", heard), lab.Options{}), lab.FreeAddr(t)
	run(t, listener(addr)+fmt.Sprintf("[[routes]]\nhosts = [\"a.test\"]\npool = \"a\"\nmode = \"terminate\"\n[routes.tls]\n"+
		"certificates = [{ cert = %q, key = %q }, { cert = %q, key = %q }]\n", ecCert, ecKey, rsaCert, rsaKey)+
		poolOf("a", []string{backend.Addr()}, `proxy_protocol = "v2"`)+"[pools.a.health]\nenabled = false\n")
	digest, kind := regexp.MustCompile(`Peer signing digest: (\S+)`), regexp.MustCompile(`Peer signature type: (\S+)`)
	for i, tt := range []struct {
		version, algorithms  string
		digest, kind, scheme string
	}{
		{"-tls1_2", "ECDSA+SHA256:ECDSA+SHA384", "SHA256", "ECDSA", "ecdsa_secp256r1_sha256"},
		{"-tls1_2", "ECDSA+SHA384:ECDSA+SHA256", "SHA384", "ECDSA", "ecdsa_secp384r1_sha384"},
		{"-tls1_2", "ECDSA+SHA512:ECDSA+SHA256", "SHA512", "ECDSA", "ecdsa_secp521r1_sha512"},
		{"-tls1_3", "ECDSA+SHA384:ECDSA+SHA256", "SHA256", "ECDSA", "ecdsa_secp256r1_sha256"},
		{"-tls1_2", "RSA+SHA512", "SHA512", "RSA", "rsa_pkcs1_sha512"},
		{"-tls1_2", "RSA-PSS+SHA384", "SHA384", "RSA-PSS", "rsa_pss_rsae_sha384"},
		{"-tls1_3", "RSA-PSS+SHA512", "SHA512", "RSA-PSS", "rsa_pss_rsae_sha512"},
	} {
		args := []string{"s_client", "-connect", addr, "-servername", "a.test", tt.version, "-sigalgs", tt.algorithms}
		if tt.version == "-tls1_2" && tt.kind != "ECDSA" {
			args = append(args, "-cipher", "ECDHE-RSA-AES128-GCM-SHA256")
		}
		out := mustTool(t, "x\n", "openssl", args...)
		if d, k := digest.FindStringSubmatch(out), kind.FindStringSubmatch(out); d == nil || k == nil || d[1] != tt.digest || k[1] != tt.kind {
			t.Errorf("%s %s: openssl has seen %q, %q, want %s, %s\n%s", tt.version, tt.algorithms, d, k, tt.digest, tt.kind, out)
		}
		if got := subTLV(t, heard.Wait(t, i, 20), 0x27); got != tt.scheme {
			t.Errorf("%s %s: the backend was told %q, want %q", tt.version, tt.algorithms, got, tt.scheme)
		}
	}
}

// TestWholeHeaderToHAProxy sends haproxy a header with all that can be told of a client, its certificate among it.
func TestWholeHeaderToHAProxy(t *testing.T) {
	dir := pki(t)
	backend, addr := lab.FreeAddr(t), lab.FreeAddr(t)
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	haproxy := startHAProxy(t, fmt.Sprintf(`
global
	log stdout format raw local0
defaults
	mode tcp
	log global
	timeout connect 2s
	timeout client 20s
	timeout server 20s
frontend in
	bind %s accept-proxy
	log-format "client=%%ci:%%cp authority=%%[fc_pp_authority] id=%%[fc_pp_unique_id,length]"
	default_backend echo
backend echo
	server echo %s
`, backend, echo.Addr()), backend)
	ca := lab.NewAuthority(t, "edge")
	cert, key := ca.WriteServer(t, "a.test")
	run(t, listener(addr)+fmt.Sprintf("[[routes]]\nhosts = [\"a.test\"]\npool = \"a\"\nmode = \"terminate\"\n[routes.tls]\n"+
		"certificates = [{ cert = %q, key = %q }]\nclient_ca = %q\n", cert, key, filepath.Join(dir, "ca.pem"))+
		poolOf("a", []string{backend}, `proxy_protocol = "v2"`, `proxy_tlvs = ["authority", "alpn", "unique-id", "ssl", "crc32c"]`))
	good, err := tls.LoadX509KeyPair(filepath.Join(dir, "good.pem"), filepath.Join(dir, "good.key"))
	if err != nil {
		t.Fatal(err)
	}
	client := ca.Client("a.test")
	client.Certificates = []tls.Certificate{good}
	if got := ask(t, addr, client, "to haproxy"); got != "to haproxy" {
		t.Errorf("got %q, want the echo", got)
	}
	haproxy.WaitLine(`client=127\.0\.0\.1:\d+ authority=a\.test id=16$`)
}
