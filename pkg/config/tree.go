package config

import (
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
}

// value is one value of a file, with its place. Exactly one of scalar, table and
// array counts, as kind says.
type value struct {
	src  *source
	line int
	kind kind

	scalar any // string, int64, float64, bool, time.Time
	table  map[string]*value
	keys   []string // of table, in order of appearance
	array  []*value
}

// kind is the type of a value, in the words problems use.
type kind string

const (
	kindString kind = "a string"
	kindInt    kind = "a whole number"
	kindFloat  kind = "a number with a fraction"
	kindBool   kind = "true or false"
	kindTime   kind = "a date"
	kindTable  kind = "a table"
	kindArray  kind = "a list"
)

func (v *value) pos() Position { return Position{v.src.name, v.line} }

// oneLine keeps a message that quotes a file's text on one line.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}

// join makes one value of what toml decoded and where the scanner found it. Where
// the scanner has no place, that of the enclosing value serves.
func join(src *source, v any, p *place) *value {
	out := &value{src: src, line: p.line}
	switch v := v.(type) {
	case map[string]any:
		out.kind = kindTable
		out.table = make(map[string]*value, len(v))
		for _, key := range p.order {
			if _, ok := v[key]; ok {
				out.keys = append(out.keys, key)
			}
		}
		if len(out.keys) < len(v) {
			for _, key := range slices.Sorted(maps.Keys(v)) {
				if p.keys[key] == nil {
					out.keys = append(out.keys, key)
				}
			}
		}
		for _, key := range out.keys {
			out.table[key] = join(src, v[key], orElse(p.keys[key], p.line))
		}
	case []map[string]any:
		out.kind = kindArray
		for i, item := range v {
			out.array = append(out.array, join(src, item, p.item(i)))
		}
	case []any:
		out.kind = kindArray
		for i, item := range v {
			out.array = append(out.array, join(src, item, p.item(i)))
		}
	default:
		out.kind, out.scalar = scalarKind(v), v
	}
	return out
}

func (p *place) item(i int) *place {
	if i < len(p.items) {
		return p.items[i]
	}
	return &place{line: p.line}
}

func orElse(p *place, line int) *place {
	if p == nil {
		return &place{line: line}
	}
	return p
}

func scalarKind(v any) kind {
	switch v.(type) {
	case string:
		return kindString
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
