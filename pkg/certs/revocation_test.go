package certs_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/pkg/certs"
)

// signing lets a node sign certificates and lists, and gives it a serial number.
func signing(serial int64) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.SerialNumber = big.NewInt(serial)
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
}

func numbered(serial int64) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.SerialNumber = big.NewInt(serial) }
}

// revoke signs a list of serial numbers, of the day around noon unless edited.
func (n *node) revoke(t *testing.T, edit func(*x509.RevocationList), serials ...int64) []byte {
	t.Helper()
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: noon.Add(-12 * time.Hour), NextUpdate: noon.Add(12 * time.Hour)}
	for _, s := range serials {
		l.RevokedCertificateEntries = append(l.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: noon})
	}
	if edit != nil {
		edit(l)
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, n.cert, n.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func crls(lists ...[]byte) string {
	var b strings.Builder
	for _, der := range lists {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
	}
	return b.String()
}

func writeCRL(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.crl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoadRevocations(t *testing.T) {
	var none *node
	root := none.issue(t, "root", signing(1), nil)
	inter := root.issue(t, "inter", signing(2), nil)
	stranger := none.issue(t, "stranger", signing(1), nil)
	impostor := none.issue(t, "root", signing(1), nil)
	both := []*x509.Certificate{root.cert, inter.cert}
	critical := []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0}}}
	partial := func(l *x509.RevocationList) { l.ExtraExtensions = critical }
	indirect := func(l *x509.RevocationList) {
		l.RevokedCertificateEntries[0].ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}
	}
	forged := root.revoke(t, nil, 7)
	forged[len(forged)-1] ^= 1
	for _, tt := range []struct {
		name    string
		text    string
		issuers []*x509.Certificate
		ok      bool
		want    string // the problems, FILE for the file
	}{
		{name: "PEM", text: crls(root.revoke(t, nil, 7), inter.revoke(t, nil)), issuers: both, ok: true},
		{name: "DER", text: string(root.revoke(t, nil, 7)), issuers: both[:1], ok: true},
		{name: "text around it", text: "0 issued by hand\n" + crls(root.revoke(t, nil, 7)) + "\nthe end\n", issuers: both[:1], ok: true},
		{
			name: "one authority has none", text: crls(inter.revoke(t, nil)), issuers: both, ok: true,
			want: `FILE: no CRL of "CN=root": what it has issued is refused: add its CRL to the file`,
		},
		{
			name: "a stranger's beside", text: crls(stranger.revoke(t, nil), root.revoke(t, nil)), issuers: both[:1], ok: true,
			want: `FILE: CRL 1, of "CN=stranger", is not used: no certificate of client_ca has that name: add the certificate of who issued it to client_ca`,
		},
		{
			name: "a stranger's alone", text: crls(stranger.revoke(t, nil)), issuers: both[:1],
			want: `FILE: holds no CRL of a client authority, but of "CN=stranger": add the certificate of who issued it to client_ca, or name that authority's CRL`,
		},
		{
			name: "an authority of the same name", text: crls(root.revoke(t, nil), impostor.revoke(t, nil)), issuers: both[:1],
			want: `FILE: CRL 2, of "CN=root", is not signed by that authority: x509: ECDSA verification failure`,
		},
		{
			name: "forged", text: string(forged), issuers: both[:1],
			want: `FILE: CRL 1, of "CN=root", is not signed by that authority: x509: ECDSA verification failure`,
		},
		{
			name: "of a part", text: crls(root.revoke(t, partial)), issuers: both[:1],
			want: `FILE: CRL 1, of "CN=root", has the critical extension 2.5.29.28: it does not tell of all certificates: name the authority's full CRL`,
		},
		{
			name: "indirect", text: crls(root.revoke(t, indirect, 7)), issuers: both[:1],
			want: `FILE: CRL 1, of "CN=root", has entries with the critical extension 2.5.29.29: it tells of other authorities' certificates`,
		},
		{name: "certificate", text: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root.cert.Raw})), issuers: both, want: "FILE: holds no CRL: make one with: openssl ca -gencrl"},
		{name: "empty", issuers: both, want: "FILE: is empty: a PEM file is text that begins with -----BEGIN X509 CRL-----"},
		{name: "cut", text: string(root.revoke(t, nil)[:20]), issuers: both, want: "FILE: CRL 1 cannot be parsed: x509: malformed crl"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := writeCRL(t, tt.text)
			got, problems := certs.LoadRevocations(file, tt.issuers)
			if (got != nil) != tt.ok {
				t.Errorf("got %v, want one: %v", got, tt.ok)
			}
			if text := strings.ReplaceAll(join(problems), file, "FILE"); text != tt.want {
				t.Errorf("problems\n%s\nwant\n%s", text, tt.want)
			}
			for _, p := range problems {
				if p.Warning != tt.ok {
					t.Errorf("%v: warning is %v", p, p.Warning)
				}
			}
		})
	}
	if got, problems := certs.LoadRevocations(filepath.Join(t.TempDir(), "none"), both); got != nil || len(problems) != 1 || !strings.Contains(problems[0].Text, "no such file") {
		t.Errorf("of no file: got %v, %v", got, problems)
	}
}

func TestRevocationsCheck(t *testing.T) {
	var none *node
	root := none.issue(t, "root", signing(1), nil)
	inter := root.issue(t, "inter", signing(2), nil)
	leaf := inter.issue(t, "a.test", numbered(0xabcd), nil)
	direct := root.issue(t, "a.test", numbered(0xabcd), nil) // the same number, another issuer
	whole := []*x509.Certificate{leaf.cert, inter.cert, root.cert}
	short := whole[:2] // inter is an authority by itself
	newer := func(l *x509.RevocationList) { l.ThisUpdate = l.ThisUpdate.Add(time.Hour) }
	tomorrow := func(l *x509.RevocationList) { l.ThisUpdate, l.NextUpdate = noon.Add(time.Hour), noon.Add(2*time.Hour) }
	for _, tt := range []struct {
		name   string
		lists  [][]byte
		now    time.Time // noon
		chains [][]*x509.Certificate
		is     error
		want   string
	}{
		{name: "good", lists: [][]byte{root.revoke(t, nil), inter.revoke(t, nil, 0xabce)}, chains: [][]*x509.Certificate{whole}},
		{
			name: "revoked", lists: [][]byte{root.revoke(t, nil), inter.revoke(t, nil, 1, 0xabcd)}, chains: [][]*x509.Certificate{whole},
			is: certs.ErrRevoked, want: "revoked (serial ABCD)",
		},
		{name: "another issuer's number", lists: [][]byte{root.revoke(t, nil), inter.revoke(t, nil, 0xabcd)}, chains: [][]*x509.Certificate{{direct.cert, root.cert}}},
		{
			name: "authority revoked", lists: [][]byte{root.revoke(t, nil, 2), inter.revoke(t, nil)}, chains: [][]*x509.Certificate{whole},
			is: certs.ErrRevoked, want: `its authority "CN=inter" is revoked (serial 2)`,
		},
		{
			name: "authority revoked, and trusted by itself", lists: [][]byte{root.revoke(t, nil, 2), inter.revoke(t, nil)}, chains: [][]*x509.Certificate{short, whole},
			is: certs.ErrRevoked, want: `its authority "CN=inter" is revoked (serial 2)`,
		},
		{name: "list of a trusted intermediate", lists: [][]byte{inter.revoke(t, nil)}, chains: [][]*x509.Certificate{short, whole}},
		{
			name: "no list of the issuer", lists: [][]byte{root.revoke(t, nil)}, chains: [][]*x509.Certificate{whole},
			is: certs.ErrNoCRL, want: `no CRL of its issuer "CN=inter"`,
		},
		{
			name: "no list of the root", lists: [][]byte{inter.revoke(t, nil)}, chains: [][]*x509.Certificate{whole},
			is: certs.ErrNoCRL, want: `no CRL of its issuer "CN=root"`,
		},
		{
			name: "revoked weighs more than missing", lists: [][]byte{inter.revoke(t, nil, 0xabcd)}, chains: [][]*x509.Certificate{whole},
			is: certs.ErrRevoked, want: "revoked (serial ABCD)",
		},
		{
			name: "old", lists: [][]byte{root.revoke(t, nil)}, now: noon.Add(13 * time.Hour), chains: [][]*x509.Certificate{{direct.cert, root.cert}},
			is: certs.ErrCRLTime, want: `CRL is not of this time: that of "CN=root" was to be replaced by 2030-06-02T00:00:00Z`,
		},
		{
			name: "revoked by an old one", lists: [][]byte{root.revoke(t, nil, 0xabcd)}, now: noon.Add(13 * time.Hour), chains: [][]*x509.Certificate{{direct.cert, root.cert}},
			is: certs.ErrRevoked, want: "revoked (serial ABCD)",
		},
		{
			name: "of tomorrow", lists: [][]byte{root.revoke(t, tomorrow)}, chains: [][]*x509.Certificate{{direct.cert, root.cert}},
			is: certs.ErrCRLTime, want: `CRL is not of this time: that of "CN=root" is not valid before 2030-06-01T13:00:00Z`,
		},
		{name: "the newest counts", lists: [][]byte{root.revoke(t, newer), root.revoke(t, nil, 0xabcd)}, chains: [][]*x509.Certificate{{direct.cert, root.cert}}},
		{
			name: "the newest counts, in order", lists: [][]byte{root.revoke(t, nil), root.revoke(t, newer, 0xabcd)}, chains: [][]*x509.Certificate{{direct.cert, root.cert}},
			is: certs.ErrRevoked, want: "revoked (serial ABCD)",
		},
		{name: "the authority itself", lists: [][]byte{root.revoke(t, nil, 1)}, chains: [][]*x509.Certificate{{root.cert}}},
		{name: "no chain", lists: [][]byte{root.revoke(t, nil)}, is: certs.ErrNoCRL, want: "no CRL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, problems := certs.LoadRevocations(writeCRL(t, crls(tt.lists...)), []*x509.Certificate{root.cert, inter.cert})
			if r == nil {
				t.Fatal(problems)
			}
			now := tt.now
			if now.IsZero() {
				now = noon
			}
			err := r.Check(now, tt.chains)
			if !errors.Is(err, tt.is) || tt.is != nil && err.Error() != tt.want {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestRevocationsProblems(t *testing.T) {
	var none *node
	root := none.issue(t, "root", signing(1), nil)
	file := writeCRL(t, crls(root.revoke(t, nil)))
	r, problems := certs.LoadRevocations(file, []*x509.Certificate{root.cert})
	if r == nil {
		t.Fatal(problems)
	}
	if got := r.Problems(noon); len(got) != 0 {
		t.Errorf("in time: got %v", got)
	}
	want := file + `: CRL is not of this time: that of "CN=root" was to be replaced by 2030-06-02T00:00:00Z: what "CN=root" has issued is refused: fetch the authority's current CRL`
	if got := join(r.Problems(noon.AddDate(0, 0, 1))); got != want {
		t.Errorf("late: got\n%s\nwant\n%s", got, want)
	}
}

// TestAuthorityRevokes holds that the lists of an Authority are such.
func TestAuthorityRevokes(t *testing.T) {
	root := authority(t)
	a, err := root.Intermediate("inter")
	if err != nil {
		t.Fatal(err)
	}
	bad, good := issue(t, a, certs.IssueOptions{CommonName: "bad", Client: true}), issue(t, a, certs.IssueOptions{CommonName: "good", Client: true})
	der, err := a.Revoke(certs.RevokeOptions{Revoked: []*x509.Certificate{bad.Leaf}})
	if err != nil {
		t.Fatal(err)
	}
	inter, err := x509.ParseCertificate(bad.Certificate.Certificate[1])
	if err != nil {
		t.Fatal(err)
	}
	r, problems := certs.LoadRevocations(writeCRL(t, string(der)), []*x509.Certificate{inter})
	if r == nil || len(problems) > 0 {
		t.Fatal(problems)
	}
	if err := r.Check(time.Now(), [][]*x509.Certificate{{bad.Leaf, inter}}); !errors.Is(err, certs.ErrRevoked) {
		t.Errorf("revoked: got %v", err)
	}
	if err := r.Check(time.Now(), [][]*x509.Certificate{{good.Leaf, inter}}); err != nil {
		t.Errorf("not revoked: got %v", err)
	}
}
