package config

import (
	"slices"
	"strings"
)

// Hidden stands in an effective file where a secret does. It is nothing that a file may
// hold: whoever puts an effective file into force is told what it lacks.
const Hidden = "<hidden>"

// credential reports whether the value of a header field may let in who knows it, by the
// name of the field.
func credential(name string) bool {
	name = strings.ToLower(name)
	return name == "cookie" || slices.ContainsFunc([]string{"auth", "token", "secret", "passw", "key"}, func(part string) bool {
		return strings.Contains(name, part)
	})
}

// secret returns what is to be written for a secret.
func (w *writer) secret(value string) string {
	if w.secrets || value == "" {
		return quote(value)
	}
	return quote(Hidden)
}

// isHidden reports whether a value is what an effective file has in its place, which is a
// problem.
func (d *decoder) isHidden(at Position, key, value string) bool {
	if value != Hidden {
		return false
	}
	d.problem(at, "write the value: snicket check --effective shows no secret", "%s is %q", key, Hidden)
	return true
}
