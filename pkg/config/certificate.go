package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// CertificateEntry is one entry of certificates = [...]. Unlike the files that it named
// when the configuration was read, it holds as files come and go.
type CertificateEntry struct {
	// Pattern is of [path/filepath.Match] and absolute, for an entry that names many
	// files; else Cert and Key are those of a Certificate.
	Pattern, Cert, Key string
	Pos                Position
}

// Files returns the certificates that the entry names now, sorted by name. Whether they
// can be read, and those of an entry without a pattern are there, is for the reader to
// find out.
func (e CertificateEntry) Files() []Certificate {
	if e.Pattern == "" {
		return []Certificate{{Cert: e.Cert, Key: e.Key, Pos: e.Pos}}
	}
	found, err := certificateGlob(e.Pattern, "")
	if err != nil {
		return nil // it was read, and so has no such error
	}
	out := make([]Certificate, len(found))
	for i, path := range found {
		out[i] = Certificate{Cert: path, Key: keyOf(path), Pos: e.Pos}
	}
	return out
}

// certificateGlob expands a pattern of certificates, which may match their keys as well.
func certificateGlob(pattern, dir string) ([]string, error) {
	found, err := expand(pattern, dir)
	return slices.DeleteFunc(found, func(path string) bool {
		return filepath.Ext(path) == ".key" // the other half of a pair
	}), err
}

// keyOf is the file of a certificate's key: NAME.key beside NAME.pem if there is one,
// else the same file.
func keyOf(cert string) string {
	beside := strings.TrimSuffix(cert, filepath.Ext(cert)) + ".key"
	if _, err := os.Stat(beside); err != nil {
		return cert
	}
	return beside
}

// certificates reads certificates = [...] of [tls] and [routes.tls]: files, globs,
// directories and tables of cert and key. incomplete says that an entry is left out for
// a problem; a glob without files is none.
func (d *decoder) certificates(t table) (out []Certificate, entries []CertificateEntry, incomplete bool) {
	have := map[string]bool{}
	add := func(c Certificate, ok bool) {
		switch {
		case !ok:
			incomplete = true
		case !have[c.Cert]: // by a second glob, or a glob and its name
			have[c.Cert] = true
			out = append(out, c)
		}
	}
	if v := t.get("certificates"); v != nil && v.kind != kindArray || v == nil && !t.missing("certificates") {
		incomplete = true
	}
	for _, v := range t.list("certificates") {
		switch v.kind {
		case kindTable:
			c, ok := d.certificate(d.table(v, certificateTable, v.pos()))
			add(c, ok)
			if ok {
				entries = append(entries, CertificateEntry{Cert: c.Cert, Key: c.Key, Pos: c.Pos})
			}
		case kindString:
			if e, ok := d.certificateFiles(v, add); ok {
				entries = append(entries, e)
			}
		default:
			d.wrongType(v, "an entry of certificates", kindString.String(), `write "www.pem", "certs/*.pem" or { cert = "www.pem", key = "www.key" }`)
			incomplete = true
		}
	}
	return out, entries, incomplete
}

// certificateFiles adds the file or the files that v names.
func (d *decoder) certificateFiles(v *value, add func(Certificate, bool)) (e CertificateEntry, ok bool) {
	name := v.scalar.(string)
	pattern := name
	if path := resolvePath(name, v.src.dir); name != "" && isDir(path) {
		pattern = filepath.Join(quoteGlob(path), "*.pem")
		name = filepath.Join(name, "*.pem") // in what is said of it
	}
	if !isGlob(pattern) {
		path, ok := d.file("certificates", name, v)
		if !ok {
			add(Certificate{}, false)
			return e, false
		}
		c, ok := d.paired(path, v)
		add(c, ok)
		return CertificateEntry{Cert: c.Cert, Key: c.Key, Pos: c.Pos}, ok
	}
	found, err := certificateGlob(pattern, v.src.dir)
	if err != nil {
		text, hint := textAndHint(err)
		d.problem(v.pos(), hint, "certificates: %s", text)
		add(Certificate{}, false)
		return e, false
	}
	if len(found) == 0 {
		d.warning(v.pos(), "relative paths start at the file that holds them", "certificates: %q matches no file", name)
	}
	for _, path := range found {
		path, ok := d.file("certificates", path, v)
		if !ok {
			add(Certificate{}, false)
			continue
		}
		add(d.paired(path, v))
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(quoteGlob(v.src.dir), pattern)
	}
	return CertificateEntry{Pattern: pattern, Pos: v.pos()}, true
}

// paired finds the key of a certificate: NAME.key beside NAME.pem, else the same file.
func (d *decoder) paired(cert string, v *value) (Certificate, bool) {
	c := Certificate{Cert: cert, Key: keyOf(cert), Pos: v.pos()}
	if c.Key == cert {
		return c, true
	}
	_, ok := d.file("the key of "+filepath.Base(cert), c.Key, v)
	return c, ok
}

// certificate reads cert and key of a table, of which key may be missing; without
// cert there is none.
func (d *decoder) certificate(t table) (Certificate, bool) {
	certText, haveCert := d.text(t.get("cert"), "cert")
	keyText, haveKey := d.text(t.get("key"), "key")
	if !haveCert {
		if haveKey || t.place == certificateTable && t.missing("cert") {
			d.problem(t.pos("key"), `write cert = "FILE.pem" beside it`, "no cert")
		}
		return Certificate{}, false
	}
	cert, okCert := d.file("cert", certText, t.get("cert"))
	if !haveKey {
		if !okCert || t.get("key") != nil {
			return Certificate{}, false
		}
		return d.paired(cert, t.get("cert"))
	}
	key, okKey := d.file("key", keyText, t.get("key"))
	return Certificate{Cert: cert, Key: key, Pos: t.pos("cert")}, okCert && okKey
}

// file resolves a path that v holds and checks that it can be read.
func (d *decoder) file(key, name string, v *value) (string, bool) {
	if name == "" {
		d.problem(v.pos(), "name a file, or drop the key", "%s is empty", key)
		return "", false
	}
	path := resolvePath(name, v.src.dir)
	if err := readable(path); err != nil {
		text, hint := textAndHint(err)
		d.problem(v.pos(), hint, "%s %q: %s", key, name, text)
		return "", false
	}
	return path, true
}

// fileKey reads a key that names one file.
func (t table) fileKey(key string) File {
	name, ok := t.d.text(t.get(key), key)
	if !ok {
		return File{}
	}
	path, ok := t.d.file(key, name, t.get(key))
	if !ok {
		return File{}
	}
	return File{path, t.pos(key)}
}
