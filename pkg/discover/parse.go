package discover

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/snicketlb/snicket/pkg/config"
)

// A FileError is what is wrong in a file of backends.
type FileError struct {
	File string
	// Line is where, from 1, and Offset the same in bytes, from 0.
	Line   int
	Offset int
	Text   string // what is wrong
	Hint   string // what to do about it; may be empty
	More   int    // how many further problems there are
}

// Error returns FILE:LINE: what (byte OFFSET): hint. It is one line.
func (e *FileError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: %s (byte %d)", e.File, e.Line, e.Text, e.Offset)
	if e.Hint != "" {
		b.WriteString(": " + e.Hint)
	}
	if e.More > 0 {
		fmt.Fprintf(&b, " (and %d more)", e.More)
	}
	return b.String()
}

// ParseFile reads a list of backends; name is how errors call it, and a relative path
// of a Unix socket starts at its directory. The list has the order of the file. An
// error is a [*FileError], the first there is; text is not kept.
func ParseFile(name string, text []byte) ([]Backend, error) {
	p := &parser{name: name, dir: filepath.Dir(name), text: text, names: map[string]int{}}
	if err := p.syntax(); err != nil {
		return nil, err
	}
	p.list()
	if p.first != nil {
		return nil, p.first
	}
	return p.backends, nil
}

// parser reads one file.
type parser struct {
	name, dir string
	text      []byte
	backends  []Backend
	names     map[string]int // line of each
	first     *FileError
}

// problem notes what is wrong at an offset.
func (p *parser) problem(offset int, hint, format string, args ...any) {
	if p.first != nil {
		p.first.More++
		return
	}
	p.first = &FileError{
		File: p.name, Line: p.line(offset), Offset: offset,
		Text: fmt.Sprintf(format, args...), Hint: hint,
	}
}

func (p *parser) line(offset int) int { return 1 + bytes.Count(p.text[:offset], []byte("\n")) }

// The hints that several mistakes share.
const (
	hintRename = "write the whole file under another name, then rename it"
	hintEntry  = `write "10.0.0.5:443" or {"address": "10.0.0.5:443", "weight": 2}`
)

// syntax refuses what is no JSON, so that what comes after meets no error of that kind.
func (p *parser) syntax() error {
	if len(bytes.TrimSpace(p.text)) == 0 {
		p.problem(len(p.text), hintRename, "the file is empty")
		return p.first
	}
	var whole json.RawMessage
	err := json.Unmarshal(p.text, &whole)
	if err == nil {
		return nil
	}
	offset := len(p.text)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		// Offset counts the byte that is wrong; there is none where the end came too soon.
		offset = int(syntax.Offset)
		if !strings.HasPrefix(syntax.Error(), "unexpected end") {
			offset--
		}
	}
	p.problem(min(max(offset, 0), len(p.text)), hintRename, "%v", err)
	return p.first
}

// reader walks over one JSON value that is known to be well formed.
type reader struct {
	*json.Decoder
	base int // where the value begins in the file
}

func (p *parser) reader(base int, text []byte) reader {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return reader{d, base}
}

// next returns the next token and where it begins.
func (r reader) next(p *parser) (json.Token, int) {
	at := p.skip(r.base + int(r.InputOffset()))
	token, err := r.Token()
	if err != nil {
		panic(fmt.Sprintf("discover: JSON that was valid is not: %v", err))
	}
	return token, at
}

// value returns the next value as it stands and where it begins.
func (r reader) value(p *parser) (json.RawMessage, int) {
	at := p.skip(r.base + int(r.InputOffset()))
	var v json.RawMessage
	if err := r.Decode(&v); err != nil {
		panic(fmt.Sprintf("discover: JSON that was valid is not: %v", err))
	}
	return v, at
}

// skip passes over what stands between two tokens.
func (p *parser) skip(offset int) int {
	rest := p.text[offset:]
	return offset + len(rest) - len(bytes.TrimLeft(rest, " \t\r\n,:"))
}

func (p *parser) list() {
	r := p.reader(0, p.text)
	if token, at := r.next(p); token != json.Delim('[') {
		p.problem(at, `write ["10.0.0.5:443"]`, "the file is not a list")
		return
	}
	n := 0
	for ; r.More(); n++ {
		v, at := r.value(p)
		if n == MaxBackends {
			p.problem(at, "", "more than the limit of %d backends", MaxBackends)
			return
		}
		p.entry(v, at)
	}
	if n == 0 {
		p.problem(p.skip(0), "a pool cannot be emptied; take its backends down instead", "the list has no backends")
	}
}

// entry reads one backend, which begins at an offset.
func (p *parser) entry(v json.RawMessage, at int) {
	b := Backend{Weight: 1}
	var address string
	addressAt := at
	switch v[0] {
	case '"':
		address = text(v)
	case '{':
		var ok bool
		if address, addressAt, ok = p.object(&b, v, at); !ok {
			return
		}
	default:
		p.problem(at, hintEntry, "an entry is neither a string nor an object")
		return
	}
	a, err := config.ParseAddress(address, p.dir)
	if err != nil {
		p.problem(addressAt, config.Hint(err), "%v", err)
		return
	}
	b.Address = a
	if b.Name == "" {
		b.Name = a.String()
	} else if err := config.CheckBackendName(b.Name); err != nil && b.Name != a.String() {
		p.problem(at, config.Hint(err), "%v", err)
		return
	}
	if line, twice := p.names[b.Name]; twice {
		p.problem(at, "drop it, or give it a name of its own", "backend %q is also in line %d", b.Name, line)
		return
	}
	p.names[b.Name] = p.line(at)
	p.backends = append(p.backends, b)
}

// object reads the keys of a backend. It returns the address and where it stands, and
// whether the rest was good.
func (p *parser) object(b *Backend, v json.RawMessage, base int) (address string, addressAt int, ok bool) {
	r := p.reader(base, v)
	r.next(p) // the brace
	seen := map[string]bool{}
	ok = true
	bad := func(at int, hint, format string, args ...any) {
		p.problem(at, hint, format, args...)
		ok = false
	}
	for r.More() {
		token, keyAt := r.next(p)
		key := token.(string) // JSON has no others
		v, at := r.value(p)
		if seen[key] {
			bad(keyAt, "drop one of them", "key %q twice", key)
		}
		seen[key] = true
		var why string
		switch key {
		case "address":
			address, why = text(v), wantString(v)
			addressAt = at
		case "name":
			if b.Name, why = text(v), wantString(v); why == "" && b.Name == "" {
				why = "is empty"
			}
		case "weight":
			b.Weight, why = number(v, 1, config.MaxWeight)
		case "max_connections":
			b.MaxConnections, why = number(v, 0, config.MaxBackendConnections)
		case "backup":
			if string(v) == "true" {
				b.Tier = 1
			} else if string(v) != "false" {
				why = "is neither true nor false"
			}
		default:
			bad(keyAt, config.BackendKeyHint(key), "unknown key %q", key)
		}
		if why != "" {
			bad(at, "", "%s %s", key, why)
		}
	}
	if !seen["address"] {
		bad(base, hintEntry, "a backend without an address")
	}
	return address, addressAt, ok
}

// text is a JSON string's value, and "" for all else.
func text(v json.RawMessage) string {
	var s string
	if v[0] != '"' || json.Unmarshal(v, &s) != nil {
		return ""
	}
	return s
}

func wantString(v json.RawMessage) string {
	if v[0] != '"' {
		return "is no string"
	}
	return ""
}

// number is a whole JSON number between two bounds, and why v is none.
func number(v json.RawMessage, least, most int) (n int, why string) {
	if v[0] != '-' && (v[0] < '0' || v[0] > '9') || json.Unmarshal(v, &n) != nil || n < least || n > most {
		shown := string(v)
		if len(shown) > 20 {
			shown = shown[:20] + "…"
		}
		return 0, fmt.Sprintf("is %q, want a whole number from %d to %d", shown, least, most)
	}
	return n, ""
}
