package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
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

// parseFile reads the TOML of one file. What toml refuses comes back as a Problem,
// and no value.
func parseFile(src *source, text string) (*value, []header, *Problem) {
	var tree map[string]any
	if _, err := toml.Decode(text, &tree); err != nil {
		return nil, nil, syntaxProblem(src, err)
	}
	places, headers := scan(text)
	return join(src, tree, places), headers, nil
}

// syntaxProblem puts an error of the toml package into our words.
func syntaxProblem(src *source, err error) *Problem {
	pe, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return &Problem{Pos: Position{File: src.name}, Text: err.Error()}
	}
	p := &Problem{Pos: Position{src.name, max(pe.Position.Line, 1)}, Text: "not valid TOML, " + clause(pe.Message)}
	switch {
	case strings.Contains(pe.Message, "name delimiter"):
		p.Hint = "headers are [table] or [[routes]], with a bracket for each one opened"
	case strings.Contains(pe.Message, "has already been defined"), strings.Contains(pe.Message, "already"):
		p.Hint = "a key or table stands once in a file; [[routes]] with two brackets may repeat"
	case strings.Contains(pe.Message, "expected value but found"), strings.Contains(pe.Message, "expected a top-level item to end"), strings.Contains(pe.Message, "boolean"):
		p.Hint = `text values stand in quotes, like "1h"`
	case strings.Contains(pe.Message, "strings cannot contain newlines"), strings.Contains(pe.Message, "expected '\"'"):
		p.Hint = "close the string with a quote on its own line"
	case strings.Contains(pe.Message, "UTF-8"):
		p.Hint = "save the file as UTF-8"
	case pe.LastKey != "":
		p.Hint = fmt.Sprintf("look at and after the key %q", pe.LastKey)
	default:
		p.Hint = `a line is key = value, [table] or # comment`
	}
	return p
}

// oneLine keeps a message that quotes a file's text on one line.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}

// clause makes a sentence of the toml package part of one of ours.
func clause(s string) string {
	s = strings.TrimSuffix(oneLine(s), ".")
	if rest, ok := strings.CutPrefix(s, "Key "); ok {
		s = "key " + rest
	}
	return s
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
