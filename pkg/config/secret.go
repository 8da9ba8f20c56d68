package config

import (
	"fmt"
	"os"
	"slices"
	"time"
)

// Tickets are the session tickets that clients resume by.
type Tickets struct {
	// Secret holds at least 32 bytes, which the keys of tickets are derived from; zero:
	// bytes drawn at each start.
	Secret File
	// Rotate is how long a key makes tickets; whole minutes, 1 hour to 30 days.
	Rotate time.Duration
}

// leastSecret is the least size of a ticket secret, in bytes: that of the keys made
// of it.
const leastSecret = 32

func (d *decoder) tickets(t table) Tickets {
	const least, most = time.Hour, 30 * day
	out := Tickets{
		Secret: t.fileKey("secret_file"),
		Rotate: t.duration("rotate", 12*time.Hour, time.Minute, most),
	}
	if out.Rotate < least {
		d.problem(t.pos("rotate"), fmt.Sprintf("write %s to %s", formatDuration(least), formatDuration(most)),
			"rotate is %q", formatDuration(out.Rotate))
	}
	secret := out.Secret
	if secret == (File{}) {
		return out
	}
	if info, err := os.Stat(secret.Path); err == nil && info.Size() < leastSecret {
		d.problem(secret.Pos, "write random bytes: openssl rand -out FILE 48",
			"secret_file %q has %d bytes, and needs %d", secret.Path, info.Size(), leastSecret)
		out.Secret = File{} // so that it is told once
	}
	d.checkSecrecy("secret_file", secret)
	return out
}

// checkSecrecy warns of a secret that every user of the machine can read.
func (d *decoder) checkSecrecy(key string, f File) {
	const othersRead = 0o004
	info, err := os.Stat(f.Path)
	if err != nil || info.Mode().Perm()&othersRead == 0 {
		return
	}
	d.warning(f.Pos, "chmod 600", "%s %q can be read by every user (mode %04o)", key, f.Path, info.Mode().Perm())
}

// files reads a list of files and patterns, each file once.
func (d *decoder) files(t table, key string) []File {
	var out []File
	add := func(name string, v *value) {
		path, ok := d.file(key, name, v)
		if ok && !slices.ContainsFunc(out, func(f File) bool { return f.Path == path }) {
			out = append(out, File{path, v.pos()})
		}
	}
	for _, v := range t.list(key) {
		name, ok := v.scalar.(string)
		if !ok {
			d.wrongType(v, "an entry of "+key, kindString.String(), fmt.Sprintf(`write %s = ["DIR/*.pem"]`, key))
			continue
		}
		if !isGlob(name) {
			add(name, v)
			continue
		}
		found, err := expand(name, v.src.dir)
		if err != nil {
			text, hint := textAndHint(err)
			d.problem(v.pos(), hint, "%s: %s", key, text)
			continue
		}
		if len(found) == 0 {
			d.warning(v.pos(), "relative paths start at the file that holds them", "%s: %q matches no file", key, name)
		}
		for _, path := range found {
			add(path, v)
		}
	}
	return out
}

// echKeys reads ech_keys: files and patterns of keys for Encrypted ClientHello.
func (d *decoder) echKeys(t table) []File {
	out := d.files(t, "ech_keys")
	for _, f := range out {
		d.checkSecrecy("ech_keys", f)
	}
	return out
}

// keyLog reads a path that may not exist yet.
func (d *decoder) keyLog(t table) File {
	v := t.get("key_log")
	name, ok := d.text(v, "key_log")
	if !ok {
		return File{}
	}
	if name == "" || printable(name) != nil {
		d.problem(v.pos(), `write key_log = "keys.log", or drop it`, "key_log is %q", name)
		return File{}
	}
	f := File{resolvePath(name, v.src.dir), v.pos()}
	if info, err := os.Stat(f.Path); err == nil && !info.Mode().IsRegular() {
		d.problem(v.pos(), "name a file", "key_log %q is not a regular file", name)
		return File{}
	}
	d.warning(v.pos(), "drop it when you have seen what you look for", "key_log: whoever reads %q can decrypt this route's sessions", name)
	return f
}
