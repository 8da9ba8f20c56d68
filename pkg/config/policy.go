package config

import (
	"cmp"
	"crypto/tls"
	"slices"

	"github.com/snicketlb/snicket/sni"
)

// Profile is a named choice of how clients shake hands.
type Profile string

// The profiles. Both have forward secret key exchange and AEAD ciphers alone.
const (
	Intermediate Profile = "intermediate" // TLS 1.2 and 1.3
	Modern       Profile = "modern"       // TLS 1.3 alone
)

// ClientAuth is what is asked of a client's certificate.
type ClientAuth string

// What is asked of it.
const (
	ClientAuthNone    ClientAuth = "none"    // clients are not asked for one
	ClientAuthRequest ClientAuth = "request" // asked for; who has none, or a bad one, is served all the same
	ClientAuthRequire ClientAuth = "require" // without a good one the handshake fails
)

// TLSPolicy is what TLS clients are offered and asked. That of [tls] is what a
// route has that writes nothing of its own; that of a route is resolved key by key.
type TLSPolicy struct {
	MinVersion uint16 // tls.VersionTLS12 or tls.VersionTLS13; the latter with Modern
	MaxVersion uint16 // the same, at least MinVersion
	Profile    Profile
	// Curves are the key exchanges allowed, in no order; never empty. One at least fits
	// each version allowed.
	Curves []tls.CurveID
	// ClientCA signs the certificates of clients. It is the zero File if and only if
	// ClientAuth is ClientAuthNone; ClientNames and CRL are then zero as well.
	ClientCA    File
	ClientAuth  ClientAuth
	ClientNames []string // patterns in the normal form of sni.CheckPattern; empty: any name
	CRL         File     // certificates that ClientCA has revoked; zero: none
	Pos         Position // of the table, or of what stands in for it
}

// curve is a key exchange under the name that the configuration has for it.
type curve struct {
	name string
	id   tls.CurveID
}

// curves returns those there are, the preferred first.
func curves() []curve {
	return []curve{
		{"X25519MLKEM768", tls.X25519MLKEM768},
		{"X25519", tls.X25519},
		{"P-256", tls.CurveP256},
		{"P-384", tls.CurveP384},
		{"P-521", tls.CurveP521},
	}
}

// curveNames returns what the configuration calls ids.
func curveNames(ids []tls.CurveID) []string {
	var out []string
	for _, id := range ids {
		i := slices.IndexFunc(curves(), func(c curve) bool { return c.id == id })
		out = append(out, curves()[i].name)
	}
	return out
}

// versionText returns what the configuration calls a version of TLS.
func versionText(v uint16) string {
	return map[uint16]string{tls.VersionTLS12: "1.2", tls.VersionTLS13: "1.3"}[v]
}

// policy reads the policy in t; what t does not say is taken from base, which is
// what [tls] says. settled is the policy to serve by, written what t and base say:
// zero values in it are what neither does.
func (d *decoder) policy(t table, base TLSPolicy) (settled, written TLSPolicy) {
	own := TLSPolicy{
		MinVersion: t.version("min_version"),
		MaxVersion: t.version("max_version"),
		Profile:    Profile(t.choice("profile", "", string(Intermediate), string(Modern))),
		Curves:     d.curves(t),
		ClientCA:   t.fileKey("client_ca"),
		ClientAuth: ClientAuth(t.choice("client_auth", "",
			string(ClientAuthRequire), string(ClientAuthRequest), string(ClientAuthNone))),
		ClientNames: d.clientNames(t),
		CRL:         t.fileKey("crl"),
		Pos:         t.at,
	}
	if t.get("client_ca") != nil {
		own.ClientCA.Pos = t.pos("client_ca") // also of a file that cannot be read
	}
	written = TLSPolicy{
		MinVersion: cmp.Or(own.MinVersion, base.MinVersion),
		MaxVersion: cmp.Or(own.MaxVersion, base.MaxVersion),
		Profile:    cmp.Or(own.Profile, base.Profile),
		Curves:     own.Curves,
		ClientCA:   cmp.Or(own.ClientCA, base.ClientCA),
		ClientAuth: cmp.Or(own.ClientAuth, base.ClientAuth),
		CRL:        own.CRL,
		Pos:        t.at,
	}
	if len(own.Curves) == 0 {
		written.Curves = base.Curves
	}
	if written.ClientNames = own.ClientNames; own.ClientNames == nil {
		written.ClientNames = base.ClientNames
	}
	if own.ClientCA == (File{}) && own.CRL == (File{}) { // a list of another authority says nothing
		written.CRL = base.CRL
	}
	d.checkVersions(t, own, base)
	settled = written.settled()
	d.checkCurves(t, settled)
	d.checkClientKeys(t, own, written)
	return settled, written
}

// settled returns p with defaults for what it does not say.
func (p TLSPolicy) settled() TLSPolicy {
	p.Profile = cmp.Or(p.Profile, Intermediate)
	p.MinVersion = cmp.Or(p.MinVersion, tls.VersionTLS12)
	if p.Profile == Modern {
		p.MinVersion = tls.VersionTLS13
	}
	p.MaxVersion = cmp.Or(p.MaxVersion, tls.VersionTLS13)
	if len(p.Curves) == 0 {
		for _, c := range curves() {
			if c.id != tls.CurveP521 {
				p.Curves = append(p.Curves, c.id)
			}
		}
	}
	byDefault := ClientAuthNone
	if p.ClientCA != (File{}) {
		byDefault = ClientAuthRequire
	}
	if p.ClientAuth = cmp.Or(p.ClientAuth, byDefault); p.ClientAuth == ClientAuthNone {
		p.ClientCA, p.ClientNames, p.CRL = File{}, nil, File{}
	}
	if len(p.ClientNames) == 0 {
		p.ClientNames = nil
	}
	return p
}

// version reads a version of TLS, 0 where there is none.
func (t table) version(key string) uint16 {
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	return versions[t.choice(key, "", "1.2", "1.3")]
}

// checkVersions refuses versions that shut one another out. What [tls] says by itself
// is told there alone.
func (d *decoder) checkVersions(t table, own, base TLSPolicy) {
	profile := cmp.Or(own.Profile, base.Profile)
	least, most := cmp.Or(own.MinVersion, base.MinVersion), cmp.Or(own.MaxVersion, base.MaxVersion)
	instead := `drop it, or write profile = "intermediate"`
	if own.Profile == "" {
		instead = `add profile = "intermediate", or drop it`
	}
	const clash = `%s is "1.2" with profile "modern", which is TLS 1.3 alone`
	switch {
	case profile == Modern && own.MinVersion == tls.VersionTLS12:
		d.problem(t.pos("min_version"), instead, clash, "min_version")
	case profile == Modern && own.MaxVersion == tls.VersionTLS12:
		d.problem(t.pos("max_version"), instead, clash, "max_version")
	case own.Profile == Modern && most == tls.VersionTLS12:
		d.problem(t.pos("profile"), `add max_version = "1.3"`, clash, "max_version of [tls]")
	case least <= most || most == 0: // versions by default shut out none
	case own.MinVersion != 0:
		d.problem(t.pos("min_version"), "make it no more than max_version", "min_version is %q, above max_version %q", versionText(least), versionText(most))
	case own.MaxVersion != 0:
		d.problem(t.pos("max_version"), "make it no less than min_version", "max_version is %q, below min_version %q", versionText(most), versionText(least))
	}
}

// curves reads a list of key exchanges, nil where there is none.
func (d *decoder) curves(t table) []tls.CurveID {
	if t.get("curves") == nil {
		return nil
	}
	var out []tls.CurveID
	var known []string
	for _, c := range curves() {
		known = append(known, c.name)
	}
	for _, e := range t.entries("curves") {
		i := slices.Index(known, e.text)
		if i < 0 {
			d.problem(e.at, "write some of "+quotedList(known), "no curve %q", e.text)
			continue
		}
		out = append(out, curves()[i].id)
	}
	if v := t.get("curves"); v != nil && v.kind == kindArray && len(v.array) == 0 {
		d.problem(v.pos(), "drop the key for the usual ones", "curves is empty")
	}
	return out
}

// checkCurves refuses TLS 1.2 without a curve that it has.
func (d *decoder) checkCurves(t table, p TLSPolicy) {
	hybrid := len(p.Curves) == 1 && p.Curves[0] == tls.X25519MLKEM768
	if t.get("curves") != nil && hybrid && p.MinVersion == tls.VersionTLS12 {
		d.problem(t.pos("curves"), `add "X25519" and "P-256", or min_version = "1.3"`, "curves has nothing for TLS 1.2, which has no X25519MLKEM768")
	}
}

// clientNames reads patterns, nil where there is no such key.
func (d *decoder) clientNames(t table) []string {
	v := t.get("client_names")
	if v == nil {
		return nil
	}
	out := []string{} // an empty list takes back that of [tls]
	for _, e := range t.entries("client_names") {
		normal, err := sni.CheckPattern(e.text)
		switch {
		case err != nil:
			d.problem(e.at, "", "client_names: %s", oneLine(err.Error()))
		case normal == "*" || normal == "-":
			d.problem(e.at, "client_names = [] allows any", "client_names has %q", normal)
		case slices.Contains(out, normal):
			d.problem(e.at, "drop one of them", "client_names has %q twice", normal)
		default:
			out = append(out, normal)
		}
	}
	return out
}

// checkClientKeys refuses keys that say more of clients' certificates than is asked.
func (d *decoder) checkClientKeys(t table, own, written TLSPolicy) {
	inRoute := t.place == routeTLSTable // [tls] may prepare what its routes turn on
	for _, key := range []string{"client_auth", "client_names", "crl"} {
		v := t.get(key)
		switch {
		case v == nil || key == "client_auth" && (own.ClientAuth == ClientAuthNone || own.ClientAuth == ""):
		case key == "client_names" && len(own.ClientNames) == 0: // takes back those of [tls]
		case written.ClientCA == (File{}) && t.missing("client_ca"):
			d.problem(v.pos(), `add client_ca = "clients.pem", or drop it`, "%s without client_ca, so that nobody is asked for a certificate", key)
		case inRoute && own.ClientAuth == ClientAuthNone:
			d.problem(v.pos(), "drop one of them", `%s has no effect with client_auth "none"`, key)
		}
	}
	if v := t.get("client_ca"); v != nil && inRoute && own.ClientAuth == ClientAuthNone {
		d.problem(v.pos(), "drop one of them", `client_ca has no effect with client_auth "none"`)
	}
}
