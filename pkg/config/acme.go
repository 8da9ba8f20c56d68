package config

import (
	"encoding/base64"
	"net/mail"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ACME is where certificates of routes with RouteTLS.ACME come from (RFC 8555).
type ACME struct {
	Email     string // of the account; empty: none
	Directory string // an https URL
	// Storage is the directory of accounts and certificates, absolute; it may not exist
	// yet.
	Storage         string
	CA              File            // roots for Directory's own TLS; zero: the system's
	ExternalAccount ExternalAccount // zero: none
	Pos             Position        // of [acme], or of the file without it
}

// ExternalAccount binds the account to one that the authority knows (RFC 8555 §7.3.4).
type ExternalAccount struct {
	KeyID   string
	HMACKey string // base64url as the authority gave it, without padding; secret
}

// LetsEncrypt is the directory of Let's Encrypt.
const LetsEncrypt = "https://acme-v02.api.letsencrypt.org/directory"

// defaultStorage is where certificates of ACME lie on a machine that says nothing else.
const defaultStorage = "/var/lib/snicket"

func (d *decoder) acme(t table) ACME {
	a := ACME{
		Email:     t.string("email", ""),
		Directory: t.string("directory", LetsEncrypt),
		Storage:   d.storage(t),
		CA:        t.fileKey("ca"),
		Pos:       t.at,
	}
	if at, err := mail.ParseAddress(a.Email); t.get("email") != nil && (err != nil || at.Address != a.Email) {
		d.problem(t.pos("email"), `write email = "ops@example.com"`, "email is %q", a.Email)
	}
	u, err := url.Parse(a.Directory)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || printable(a.Directory) != nil {
		d.problem(t.pos("directory"), `write an https URL, such as "`+LetsEncrypt+`"`, "directory is %q", a.Directory)
	}
	if v := t.get("external_account"); v != nil {
		a.ExternalAccount = d.externalAccount(d.table(v, externalTable, t.at))
	}
	return a
}

// storage reads where to keep what authorities have signed: by default where the
// system's service manager says that state belongs (systemd.exec(5), StateDirectory).
func (d *decoder) storage(t table) string {
	byDefault := defaultStorage
	if first, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); filepath.IsAbs(first) && printable(first) == nil {
		byDefault = filepath.Clean(first)
	}
	v := t.get("storage")
	name, ok := d.text(v, "storage")
	if !ok {
		return byDefault
	}
	if name == "" || printable(name) != nil {
		d.problem(v.pos(), `write storage = "`+defaultStorage+`"`, "storage is %q", name)
		return byDefault
	}
	path := resolvePath(name, v.src.dir)
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		d.problem(v.pos(), "name a directory", "storage %q is not a directory", name)
	}
	return path
}

func (d *decoder) externalAccount(t table) ExternalAccount {
	e := ExternalAccount{KeyID: t.string("key_id", ""), HMACKey: strings.TrimRight(t.string("hmac_key", ""), "=")}
	for _, key := range []string{"key_id", "hmac_key"} {
		if t.v != nil && t.missing(key) {
			d.problem(t.at, `write { key_id = "…", hmac_key = "…" }, both from the authority`, "external_account without %s", key)
		}
	}
	if v := t.get("key_id"); v != nil && v.kind == kindString && (e.KeyID == "" || printable(e.KeyID) != nil) {
		d.problem(v.pos(), "write what the authority gave you", "key_id is %q", e.KeyID)
	}
	if v := t.get("hmac_key"); v != nil && v.kind == kindString {
		if d.isHidden(v.pos(), "hmac_key", e.HMACKey) {
			return e
		}
		if key, err := base64.RawURLEncoding.DecodeString(e.HMACKey); err != nil || len(key) == 0 {
			d.problem(v.pos(), "write what the authority gave you: letters, digits, - and _", "hmac_key is no base64url")
		}
	}
	return e
}

// checkACME refuses hosts for which no certificate can be had, and warns of an account
// that the authority cannot write to.
func (d *decoder) checkACME(c *Config, routes []*routeSource) {
	asked := false
	for i, r := range c.Routes {
		if !r.TLS.ACME {
			continue
		}
		at := routes[i].tls.pos("acme")
		for _, h := range r.Hosts {
			if strings.HasPrefix(h.Pattern, "*") || h.Pattern == "-" {
				d.problem(h.Pos, "name the hosts, or give the route certificates of its own: a wildcard takes a DNS challenge",
					"acme cannot get a certificate for %q", h.Pattern)
			}
		}
		isTLS := func(name string) bool {
			return slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.Name == name && l.Kind == ListenTLS })
		}
		if len(r.Listeners) > 0 && !slices.ContainsFunc(r.Listeners, isTLS) {
			d.problem(at, `add one of kind "tls" to the route's listeners`, "acme in route %q, which has no listener for TLS", r.Name)
		}
		if !asked && c.ACME.Email == "" && c.ACME.Directory == LetsEncrypt {
			d.warning(at, `add [acme], email = "…": an address for what the authority has to say`, "acme without an email")
		}
		asked = true
	}
}
