package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// source is one file.
type source struct {
	name string // as Positions call it
	dir  string // absolute; where its relative paths start
	text string // or what is left of it without its routes
}

// largeText is from how many bytes on a text is not kept for the sake of one string.
const largeText = 64 << 10

// value is one value of a file, with its place. The scanner makes it and knows where
// it stands; what it is comes from toml, see join. Of scalar, keyed and array the one
// counts that kind says.
type value struct {
	src    *source
	line   int32
	kind   kind
	scalar any      // string, int64, float64, bool, time.Time; []gap of kindKnown
	keyed  *keyed   // of a table; nil: it is empty
	array  []*value // of a list
	// from and to are where the text of src has a [[routes]] and what follows up to the
	// next table that is not part of it.
	from, to int32
}

// keyed are the keys of a table in order of appearance.
type keyed struct {
	keys   []string
	values []*value
	index  map[string]*value // of a large one
}

// indexed is how many keys are rather looked up than looked through.
const indexed = 8

func (k *keyed) get(key string) *value {
	if k.index != nil {
		return k.index[key]
	}
	if i := slices.Index(k.keys, key); i >= 0 {
		return k.values[i]
	}
	return nil
}

// add puts v under key, where nothing is.
func (k *keyed) add(key string, v *value) {
	k.keys, k.values = append(k.keys, key), append(k.values, v)
	switch {
	case k.index != nil:
		k.index[key] = v
	case len(k.keys) > indexed:
		k.index = make(map[string]*value, 2*len(k.keys))
		for i, key := range k.keys {
			k.index[key] = k.values[i]
		}
	}
}

// keys returns those of a table, which the caller leaves as they are.
func (v *value) keys() []string {
	if v.keyed == nil {
		return nil
	}
	return v.keyed.keys
}

// at returns the value of key, or nil.
func (v *value) at(key string) *value {
	if v.keyed == nil {
		return nil
	}
	return v.keyed.get(key)
}

// add puts what under key, where nothing is.
func (v *value) add(key string, what *value) {
	if v.keyed == nil {
		v.keyed = &keyed{}
	}
	v.keyed.add(key, what)
}

// kind is the type of a value.
type kind uint8

const (
	kindString kind = iota + 1
	kindInt
	kindFloat
	kindBool
	kindTime
	kindTable
	kindArray
	kindKnown // routes of the former configuration, in a list
)

// String returns the word problems use.
func (k kind) String() string {
	return [...]string{"nothing", "a string", "a whole number", "a number with a fraction", "true or false", "a date", "a table", "a list", "known"}[k]
}

func (v *value) pos() Position { return Position{v.src.name, int(v.line)} }

// oneLine keeps a message that quotes a file's text on one line.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}

// join makes of out, which the scanner found, what toml decoded there. Where the
// scanner has no place for what toml has, that of out serves.
func join(v any, out *value) {
	switch v := v.(type) {
	case map[string]any:
		out.kind = kindTable
		joinKeys(v, out)
	case []map[string]any:
		out.kind = kindArray
		out.resize(len(v))
		for i, item := range v {
			join(item, out.array[i])
		}
	case []any:
		out.kind = kindArray
		out.resize(len(v))
		for i, item := range v {
			join(item, out.array[i])
		}
	case string:
		if len(out.src.text) > largeText {
			v = strings.Clone(v)
		}
		out.kind, out.scalar = kindString, v
	default:
		out.kind, out.scalar = scalarKind(v), v
	}
}

// joinKeys is join of a table.
func joinKeys(v map[string]any, out *value) {
	found := out.keys()
	if len(found) != len(v) || slices.ContainsFunc(found, func(key string) bool { _, ok := v[key]; return !ok }) {
		places := *out
		out.keyed = nil
		for _, key := range slices.Concat(found, slices.Sorted(maps.Keys(v))) {
			if _, ok := v[key]; ok && out.at(key) == nil {
				out.add(key, cmp.Or(places.at(key), &value{src: out.src, line: out.line}))
			}
		}
	}
	for i, key := range out.keys() {
		join(v[key], out.keyed.values[i])
	}
}

// resize gives a list n elements.
func (v *value) resize(n int) {
	v.array = v.array[:min(n, len(v.array))]
	for len(v.array) < n {
		v.array = append(v.array, &value{src: v.src, line: v.line})
	}
}

func scalarKind(v any) kind {
	switch v.(type) {
	case int64:
		return kindInt
	case float64:
		return kindFloat
	case bool:
		return kindBool
	case time.Time:
		return kindTime
	}
	panic(fmt.Sprintf("config: toml decoded a %T", v))
}
