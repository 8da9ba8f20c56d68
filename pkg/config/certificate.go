package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// certificates reads certificates = [...] of [tls] and [routes.tls]: files, globs,
// directories and tables of cert and key. incomplete says that an entry is left out for a problem; a
// glob without files is none.
func (d *decoder) certificates(t table) (out []Certificate, incomplete bool) {
	add := func(c Certificate, ok bool) {
		if !ok {
			incomplete = true
			return
		}
		for _, have := range out {
			if have.Cert == c.Cert { // by a second glob, or a glob and its name
				return
			}
		}
		out = append(out, c)
	}
	if v := t.get("certificates"); v != nil && v.kind != kindArray || v == nil && !t.missing("certificates") {
		incomplete = true
	}
	for _, v := range t.list("certificates") {
		switch v.kind {
		case kindTable:
			add(d.certificate(d.table(v, certificateTable, v.pos())))
		case kindString:
			d.certificateFiles(v, add)
		default:
			d.wrongType(v, "an entry of certificates", kindString, `write "www.pem", "certs/*.pem" or { cert = "www.pem", key = "www.key" }`)
			incomplete = true
		}
	}
	return out, incomplete
}

// certificateFiles adds the file or the files that v names.
func (d *decoder) certificateFiles(v *value, add func(Certificate, bool)) {
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
			return
		}
		add(d.paired(path, v))
		return
	}
	found, err := expand(pattern, v.src.dir)
	if err != nil {
		text, hint := textAndHint(err)
		d.problem(v.pos(), hint, "certificates: %s", text)
		add(Certificate{}, false)
		return
	}
	found = slices.DeleteFunc(found, func(path string) bool {
		return filepath.Ext(path) == ".key" // the other half of a pair
	})
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
}

// paired finds the key of a certificate: NAME.key beside NAME.pem, else the same file.
func (d *decoder) paired(cert string, v *value) (Certificate, bool) {
	c := Certificate{Cert: cert, Key: cert, Pos: v.pos()}
	beside := strings.TrimSuffix(cert, filepath.Ext(cert)) + ".key"
	if _, err := os.Stat(beside); err != nil {
		return c, true
	}
	_, ok := d.file("the key of "+filepath.Base(cert), beside, v)
	c.Key = beside
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
