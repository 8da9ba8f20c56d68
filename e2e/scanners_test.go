//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// scanned is a balancer with one host that speaks HTTP, on the default profile, with a certificate of each kind.
type scanned struct {
	*balancer
	addr, ca string
}

func newScanned(t *testing.T, policy string) scanned {
	t.Helper()
	e := scanned{addr: lab.FreeAddr(t)}
	backend := lab.FreeAddr(t)
	startNginx(t, fmt.Sprintf("http { access_log off; server { listen %s; return 200 'as it should be'; } }\n", backend), backend)
	authority := lab.NewAuthority(t, "edge authority")
	e.ca = authority.WriteCA(t)
	ecdsa, ecdsaKey := authority.WriteServer(t, "a.test")
	rsa, rsaKey := lab.WriteCertificate(t, authority.Issue(t, lab.Certificate{Names: []string{"a.test"}, RSA: true}))
	e.balancer = run(t, listener(e.addr)+fmt.Sprintf(`
[[routes]]
hosts = ["a.test"]
mode = "terminate"
backends = [%q]
[routes.tls]
certificates = [{ cert = %q, key = %q }, { cert = %q, key = %q }]
%s
[routes.http]
hsts = true
`, backend, ecdsa, ecdsaKey, rsa, rsaKey, policy))
	return e
}

// TestSSLScan holds what each profile offers to the word, as sslscan finds it. OpenSSL 3.0, which it is built on, has
// no X25519MLKEM768.
func TestSSLScan(t *testing.T) {
	lab.Require(t, "sslscan", "sslscan")
	var (
		suites13 = []string{"TLSv1.3 TLS_AES_128_GCM_SHA256", "TLSv1.3 TLS_AES_256_GCM_SHA384", "TLSv1.3 TLS_CHACHA20_POLY1305_SHA256"}
		suites12 = []string{
			"TLSv1.2 ECDHE-ECDSA-AES128-GCM-SHA256", "TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384", "TLSv1.2 ECDHE-ECDSA-CHACHA20-POLY1305",
			"TLSv1.2 ECDHE-RSA-AES128-GCM-SHA256", "TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384", "TLSv1.2 ECDHE-RSA-CHACHA20-POLY1305",
		}
		groups13 = []string{"TLSv1.3 secp256r1", "TLSv1.3 secp384r1", "TLSv1.3 x25519"}
		groups12 = []string{"TLSv1.2 secp256r1", "TLSv1.2 secp384r1", "TLSv1.2 x25519"}
	)
	for _, tt := range []struct {
		name, policy     string
		versions         []string
		ciphers, groups  []string
		disabled, absent []string
	}{
		{
			name: "intermediate", versions: []string{"TLSv1.2", "TLSv1.3"},
			ciphers: slices.Concat(suites13, suites12), groups: slices.Concat(groups13, groups12),
		},
		{name: "modern", policy: `profile = "modern"`, versions: []string{"TLSv1.3"}, ciphers: suites13, groups: groups13},
		{
			name: "one curve", policy: `curves = ["P-384"]`, versions: []string{"TLSv1.2", "TLSv1.3"},
			ciphers: slices.Concat(suites13, suites12), groups: []string{"TLSv1.3 secp384r1", "TLSv1.2 secp384r1"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newScanned(t, tt.policy)
			out := mustTool(t, "", "sslscan", "--no-colour", "--sni-name=a.test", e.addr)
			var versions, ciphers, groups []string
			for line := range strings.Lines(out) {
				words := strings.Fields(line)
				switch {
				case len(words) == 2 && words[1] == "enabled":
					versions = append(versions, words[0])
				case len(words) > 4 && (words[0] == "Accepted" || words[0] == "Preferred"):
					ciphers = append(ciphers, words[1]+" "+words[4])
				case len(words) > 3 && words[2] == "bits" && strings.HasPrefix(words[0], "TLSv"):
					groups = append(groups, words[0]+" "+words[3])
				}
			}
			for _, found := range []struct {
				what      string
				got, want []string
			}{{"versions", versions, tt.versions}, {"ciphers", ciphers, tt.ciphers}, {"groups", groups, tt.groups}} {
				slices.Sort(found.got)
				slices.Sort(found.want)
				if !slices.Equal(found.got, found.want) {
					t.Errorf("%s %q, want %q", found.what, found.got, found.want)
				}
			}
			for _, must := range []string{
				"TLSv1.2 not vulnerable to heartbleed", "Session renegotiation not supported",
			} {
				if tt.policy != "" && strings.Contains(must, "TLSv1.2") {
					continue
				}
				if !strings.Contains(out, must) {
					t.Errorf("sslscan does not say %q:\n%s", must, out)
				}
			}
		})
	}
}

// finding is one line of testssl's report.
type finding struct {
	ID       string `json:"id"`
	Severity string `json:"severity"`
	Finding  string `json:"finding"`
}

// TestTestSSL has testssl.sh look at the default profile with everything it knows. It must find nothing but what is
// named here, and each attack it tries must fail.
func TestTestSSL(t *testing.T) {
	t.Parallel() // it mostly waits, for the better part of a minute
	lab.Require(t, "testssl", "testssl.sh")
	e := newScanned(t, "")
	report := filepath.Join(t.TempDir(), "report.json")
	out, status := tool(t, "", "testssl", "--quiet", "--color", "0", "--warnings", "off", "--nodns", "none",
		"--ip", "127.0.0.1", "--jsonfile", report, "--add-ca", e.ca, "a.test:"+port(t, e.addr))
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatalf("%v, exit status %d\n%s", err, status, out)
	}
	var findings []finding
	if err := json.Unmarshal(text, &findings); err != nil {
		t.Fatal(err)
	}
	expected := map[string]string{
		"engine_problem":         "the scanner's own OpenSSL has no GOST",
		"cert_revocation":        "the test's certificates name no CRL and no OCSP responder",
		"DNS_CAArecord":          "it is told to ask no DNS server",
		"TLS_session_ticket":     "crypto/tls hints at seven days; the keys are changed every twelve hours",
		"secure_renego":          "the scanner's OpenSSL client is too old for what it tries here; RFC 5746 is in TLS_extensions",
		"certificate_compromise": "it is told to ask no DNS server",
		"security_headers":       "those besides HSTS are the backend's",
	}
	verdicts := map[string]string{}
	for _, f := range findings {
		id, _, _ := strings.Cut(f.ID, " ") // "ID <cert#1>"
		verdicts[id] = f.Severity
		switch f.Severity {
		case "OK", "INFO", "DEBUG":
		default:
			if expected[id] == "" {
				t.Errorf("%s: %s: %s", f.ID, f.Severity, f.Finding)
			}
		}
	}
	for _, attack := range []string{
		"heartbleed", "CCS", "ticketbleed", "ROBOT", "secure_client_renego", "CRIME_TLS", "BREACH", "POODLE_SSL", "fallback_SCSV",
		"SWEET32", "FREAK", "DROWN", "LOGJAM", "BEAST", "LUCKY13", "RC4",
		"SSLv2", "SSLv3", "cipherlist_NULL", "cipherlist_EXPORT", "cipherlist_3DES_IDEA", "PFS", "HSTS_time",
	} {
		if got := verdicts[attack]; got != "OK" && got != "INFO" {
			t.Errorf("%s: got %q, want it tried and found good", attack, got)
		}
	}
	for _, f := range findings {
		if f.ID == "TLS_extensions" && !strings.Contains(f.Finding, "renegotiation info") {
			t.Errorf("no renegotiation info (RFC 5746) in %q", f.Finding)
		}
	}
}
