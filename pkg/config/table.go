package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// decoder collects what is wrong while values are read. Its methods, and those of
// table, note a problem and go on with the default.
type decoder struct {
	problems Problems
	// references are problems that a file which could not be read may be the cause of.
	references Problems
	unread     bool                // such a file there is
	known      *known              // from before; may be nil
	poolIndex  map[string]int      // index in Config.Pools, by name
	policyBase TLSPolicy           // what [tls] says of the policy of routes
	bareTLS    *RouteTLS           // of a route that says nothing of it
	noTLS      *RouteTLS           // of every route that does not terminate
	forTLS     []string            // listeners of that kind: those of every route that names none
	schema     map[string][]string // what keysOf has said so far: each of many routes asks
}

// keysOf is [keysOf] that makes the list of a table once. The list is not to be changed.
func (d *decoder) keysOf(table string) []string {
	keys, ok := d.schema[table]
	if !ok {
		if d.schema == nil {
			d.schema = map[string][]string{}
		}
		keys = keysOf(table)
		d.schema[table] = keys
	}
	return keys
}

func (d *decoder) problem(at Position, hint, format string, args ...any) {
	d.problems = append(d.problems, Problem{Pos: at, Text: fmt.Sprintf(format, args...), Hint: hint})
}

// reference is problem for a name that nothing declares. It counts only if every file
// was read: else the missing file is told, and may well declare it.
func (d *decoder) reference(at Position, hint, format string, args ...any) {
	d.references = append(d.references, Problem{Pos: at, Text: fmt.Sprintf(format, args...), Hint: hint})
}

func (d *decoder) warning(at Position, hint, format string, args ...any) {
	d.problems = append(d.problems, Problem{Pos: at, Warning: true, Text: fmt.Sprintf(format, args...), Hint: hint})
}

// table reads the keys of one table. Each getter names a key of the table's place in
// the schema, so that the schema cannot fall behind the code.
type table struct {
	d     *decoder
	v     *value   // nil: the table is not there, all keys have their defaults
	place string   // its name in the schema
	known []string // the keys of that
	at    Position // of the table, or of what stands in for it
}

// absent returns a table of which all keys have their defaults.
func (d *decoder) absent(place string, at Position) table {
	return table{d: d, place: place, known: d.keysOf(place), at: at}
}

// table returns the table in v, of which every key is checked against the schema.
func (d *decoder) table(v *value, place string, at Position) table {
	t := d.absent(place, at)
	if v == nil {
		return t
	}
	t.at = v.pos()
	if v.kind != kindTable {
		d.wrongType(v, place, kindTable.String(), fmt.Sprintf("write it as %s", bracketed(place)))
		return t
	}
	t.v = v
	for _, key := range v.keys() {
		if !slices.Contains(t.known, key) {
			d.problem(v.at(key).pos(), unknownKeyHint(place, key), "unknown key %q", key)
			d.unread = d.unread || key == "include" || place == rootTable && Nearest(key, t.known) == "include"
		}
	}
	return t
}

func (d *decoder) wrongType(v *value, key, want, hint string) {
	d.problem(v.pos(), hint, "%s is %s, not %s", key, v.kind, want)
}

// get returns the value of key, or nil.
func (t table) get(key string) *value {
	if !slices.Contains(t.known, key) {
		panic(fmt.Sprintf("config: table %q has no key %q", t.place, key))
	}
	if t.v == nil {
		return nil
	}
	return t.v.at(key)
}

// pos returns where key stands, or the table where it does not.
func (t table) pos(key string) Position {
	if v := t.get(key); v != nil {
		return v.pos()
	}
	return t.at
}

// missing says that key is not there, and that no unknown key was taken for it.
func (t table) missing(key string) bool {
	if t.get(key) != nil {
		return false
	}
	return t.v == nil || !slices.ContainsFunc(t.v.keys(), func(have string) bool {
		return !slices.Contains(t.known, have) && Nearest(have, t.known) == key
	})
}

func (t table) sub(key, place string) table { return t.d.table(t.get(key), place, t.at) }

// text reads a string, "" where there is none or it is of another type.
func (d *decoder) text(v *value, key string) (string, bool) {
	if v == nil {
		return "", false
	}
	s, ok := v.scalar.(string)
	if !ok {
		hint := `write ` + key + ` = "…"`
		if v.kind != kindArray && v.kind != kindTable {
			hint = fmt.Sprintf("put it in quotes: %s = %q", key, fmt.Sprint(v.scalar))
		}
		d.wrongType(v, key, kindString.String(), hint)
	}
	return s, ok
}

func (t table) string(key, byDefault string) string {
	if s, ok := t.d.text(t.get(key), key); ok {
		return s
	}
	return byDefault
}

// choice reads a string that must be one of a few.
func (t table) choice(key, byDefault string, options ...string) string {
	s, ok := t.d.text(t.get(key), key)
	if !ok {
		return byDefault
	}
	if slices.Contains(options, s) {
		return s
	}
	hint := fmt.Sprintf("write %s", quotedList(options))
	if near := Nearest(s, options); near != "" && len(s) > 3 {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	t.d.problem(t.pos(key), hint, "%s is %q", key, s)
	return byDefault
}

func (t table) bool(key string, byDefault bool) bool {
	v := t.get(key)
	if v == nil {
		return byDefault
	}
	b, ok := v.scalar.(bool)
	if !ok {
		t.d.wrongType(v, key, kindBool.String(), fmt.Sprintf("write %s = true or %s = false, without quotes", key, key))
		return byDefault
	}
	return b
}

// maxCount bounds every count: what 32 bits hold with room to add.
const maxCount = 1_000_000_000

// int reads a whole number from least to most.
func (t table) int(key string, byDefault, least, most int) int {
	v := t.get(key)
	if v == nil {
		return byDefault
	}
	n, ok := v.scalar.(int64)
	if !ok {
		t.d.wrongType(v, key, kindInt.String(), fmt.Sprintf("write %s = %d, without quotes", key, max(byDefault, least)))
		return byDefault
	}
	if n < int64(least) || n > int64(most) {
		t.d.problem(v.pos(), fmt.Sprintf("write a number from %d to %d", least, most), "%s is %d", key, n)
		return byDefault
	}
	return int(n)
}

// bound reads a limit of the whole process, which always has one.
func (t table) bound(key string, byDefault int) int {
	if v := t.get(key); v != nil && v.scalar == int64(0) {
		t.d.problem(v.pos(), fmt.Sprintf("drop it for %d, or write a number up to %d: the process as a whole has a limit", byDefault, maxCount), "%s is 0", key)
		return byDefault
	}
	return t.int(key, byDefault, 1, maxCount)
}

// maxDuration bounds every duration that has no smaller bound of its own.
const maxDuration = 365 * day

// duration reads a duration from least to most, in whole units of least if that is
// above zero.
func (t table) duration(key string, byDefault, least, most time.Duration) time.Duration {
	v := t.get(key)
	if v == nil {
		return byDefault
	}
	s, ok := v.scalar.(string)
	if !ok {
		hint := fmt.Sprintf("write %s = %q", key, formatDuration(byDefault))
		if v.kind == kindInt || v.kind == kindFloat {
			hint = fmt.Sprintf("durations are text with a unit: %s = %q", key, fmt.Sprint(v.scalar, "s"))
		}
		t.d.wrongType(v, key, "a duration", hint)
		return byDefault
	}
	d, err := parseDuration(s)
	if err != nil {
		text, hint := textAndHint(err)
		t.d.problem(v.pos(), hint, "%s: %s", key, text)
		return byDefault
	}
	if d < least || d > most || least > 0 && d%least != 0 && least >= time.Millisecond {
		hint := fmt.Sprintf("write %s to %s", formatDuration(least), formatDuration(most))
		if d > least && d < most {
			hint = fmt.Sprintf("it counts in units of %s", formatDuration(least))
		}
		t.d.problem(v.pos(), hint, "%s is %q", key, s)
		return byDefault
	}
	return d
}

// parsed reads a string by a parser of its own.
func parsed[T any](t table, key string, byDefault T, parse func(string) (T, error)) T {
	s, ok := t.d.text(t.get(key), key)
	if !ok {
		return byDefault
	}
	out, err := parse(s)
	if err != nil {
		text, hint := textAndHint(err)
		t.d.problem(t.pos(key), hint, "%s: %s", key, text)
		return byDefault
	}
	return out
}

// list returns the elements of a list.
func (t table) list(key string) []*value {
	v := t.get(key)
	if v == nil {
		return nil
	}
	if v.kind != kindArray {
		hint := fmt.Sprintf("write %s = […]", key)
		if s, ok := v.scalar.(string); ok {
			hint = fmt.Sprintf("put it in brackets: %s = [%q]", key, s)
		}
		t.d.wrongType(v, key, kindArray.String(), hint)
		return nil
	}
	return v.array
}

// entry is one string of a list.
type entry struct {
	text string
	at   Position
}

// entries reads a list of strings, each of which may stand in it once.
func (t table) entries(key string) []entry {
	list := t.list(key)
	if len(list) == 0 {
		return nil
	}
	out := make([]entry, 0, len(list))
	seen := map[string]bool{}
	for _, v := range list {
		s, ok := v.scalar.(string)
		if !ok {
			t.d.wrongType(v, "an entry of "+key, kindString.String(), fmt.Sprintf(`write %s = ["…", "…"]`, key))
			continue
		}
		if seen[s] {
			t.d.problem(v.pos(), "drop one of them", "%s has %q twice", key, s)
			continue
		}
		if len(list) > 1 { // of very many routes, most have lists of one
			seen[s] = true
		}
		out = append(out, entry{s, v.pos()})
	}
	return out
}

// prefixes reads a list of networks.
func (t table) prefixes(key string) []netip.Prefix {
	var out []netip.Prefix
	for _, e := range t.entries(key) {
		out = t.d.prefix(out, key, e)
	}
	return out
}

// prefix appends the network that e holds to list.
func (d *decoder) prefix(list []netip.Prefix, key string, e entry) []netip.Prefix {
	p, err := parsePrefix(e.text)
	if err != nil {
		text, hint := textAndHint(err)
		d.problem(e.at, hint, "%s: %s", key, text)
		return list
	}
	if slices.Contains(list, p) {
		d.problem(e.at, "drop one of them", "%s has %s twice", key, p)
		return list
	}
	return append(list, p)
}

func quotedList(options []string) string {
	quoted := make([]string, len(options))
	for i, o := range options {
		quoted[i] = fmt.Sprintf("%q", o)
	}
	if len(quoted) < 2 {
		return strings.Join(quoted, "")
	}
	return strings.Join(quoted[:len(quoted)-1], ", ") + " or " + quoted[len(quoted)-1]
}
