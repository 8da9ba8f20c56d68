package config

import (
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// header is one [table] or [[table]] line.
type header struct {
	path  []string
	line  int
	array bool
}

// scanner walks TOML that toml.Decode has accepted, and only that: it looks for
// structure and judges nothing. On other text it still ends and does not panic, but
// what it returns means nothing.
type scanner struct {
	src     *source
	text    string
	at      int
	line    int
	headers []header
	route   *value // whose text goes on
	gaps    []gap  // that are still to come
}

// scan returns the values of text, of which it knows the places alone, and its table
// headers in order: toml itself keeps no position of what it accepts. It reports whether
// each of gaps stands where a table could. The text begins in that line.
func scan(src *source, text string, line int32, gaps []gap) (root *value, headers []header, whole bool) {
	s := &scanner{src: src, text: text, line: int(line), gaps: gaps}
	root = s.new(s.line)
	table := root
	for s.skipToStatement(); s.at < len(s.text); s.skipToStatement() {
		start := s.at
		if s.peek() == '[' {
			table = s.header(root)
		} else {
			s.pair(table)
		}
		if s.at == start { // not TOML; go on rather than hang
			s.at++
		}
	}
	s.endRoute(len(s.text))
	return root, s.headers, len(s.gaps) == 0
}

// skipToStatement is skipBlank between two statements, where gaps may be.
func (s *scanner) skipToStatement() {
	from := s.at
	s.skipBlank()
	for len(s.gaps) > 0 && from <= int(s.gaps[0].at) && int(s.gaps[0].at) <= s.at {
		s.endRoute(int(s.gaps[0].at))
		s.line += int(s.gaps[0].lines)
		s.gaps = s.gaps[1:]
	}
}

// endRoute ends the text of a route at an offset.
func (s *scanner) endRoute(at int) {
	if s.route != nil {
		s.route.to = int32(at)
		s.route = nil
	}
}

func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// skipBlank passes spaces, newlines and comments.
func (s *scanner) skipBlank() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case '\n':
			s.line++
			s.at++
		case ' ', '\t', '\r':
			s.at++
		case '#':
			s.skipComment()
		default:
			return
		}
	}
}

func (s *scanner) skipComment() {
	if i := strings.IndexByte(s.text[s.at:], '\n'); i >= 0 {
		s.at += i
		return
	}
	s.at = len(s.text)
}

func (s *scanner) skipSpace() {
	for s.peek() == ' ' || s.peek() == '\t' {
		s.at++
	}
}

// header reads [a.b] or [[a.b]] and returns the table that it opens.
func (s *scanner) header(root *value) *value {
	line, start := s.line, strings.LastIndexByte(s.text[:s.at], '\n')+1
	s.at++
	array := s.peek() == '['
	if array {
		s.at++
	}
	path := s.keyPath()
	for s.peek() == ']' {
		s.at++
	}
	s.note(header{path, line, array})
	if len(path) == 0 || path[0] != "routes" || len(path) == 1 {
		s.endRoute(start)
	}
	table := root
	for i, key := range path {
		if i == len(path)-1 && array {
			list := s.child(table, key, line)
			table = s.new(line)
			list.array = append(list.array, table)
			if len(path) == 1 && key == "routes" {
				s.route, table.from = table, int32(start)
			}
			break
		}
		known := table.at(key) != nil
		table = s.child(table, key, line).last()
		if i == len(path)-1 && !known {
			table.line = int32(line)
		}
	}
	return table
}

// note adds h to the headers. Of [[routes]] behind [[routes]], of which there may be very
// many, the last one stands for all.
func (s *scanner) note(h header) {
	n := len(s.headers)
	if n > 0 && h.array && s.headers[n-1].array && len(h.path) == 1 && slices.Equal(s.headers[n-1].path, h.path) {
		s.headers = s.headers[:n-1]
	}
	s.headers = append(s.headers, h)
}

// pair reads key = value into table. Dotted keys open tables of their own.
func (s *scanner) pair(table *value) {
	line := s.line
	path := s.keyPath()
	if len(path) == 0 {
		return
	}
	for _, key := range path {
		table = s.child(table, key, line)
	}
	if s.peek() == '=' {
		s.at++
	}
	s.skipSpace()
	s.value(table)
}

// keyPath reads a dotted key up to what cannot belong to one.
func (s *scanner) keyPath() []string {
	var path []string
	for {
		s.skipSpace()
		start := s.at
		switch s.peek() {
		case '"', '\'':
			s.skipString()
			path = append(path, unquoteKey(s.text[start:s.at]))
		default:
			for isBare(s.peek()) {
				s.at++
			}
			if s.at == start {
				return path
			}
			path = append(path, s.text[start:s.at])
		}
		s.skipSpace()
		if s.peek() != '.' {
			return path
		}
		s.at++
	}
}

// value passes one value, noting the places inside of it below p.
func (s *scanner) value(p *value) {
	switch s.peek() {
	case '"', '\'':
		s.skipString()
	case '[':
		s.at++
		s.array(p)
	case '{':
		s.at++
		s.inlineTable(p)
	default: // numbers, booleans, dates: nothing in them ends a value
		n := strings.IndexAny(s.text[s.at:], ",]}#\n")
		if n < 0 {
			n = len(s.text) - s.at
		}
		s.at += n
	}
}

func (s *scanner) array(p *value) {
	for {
		s.skipBlank()
		switch s.peek() {
		case 0:
			return
		case ']':
			s.at++
			return
		case ',':
			s.at++
		default:
			start := s.at
			item := s.new(s.line)
			p.array = append(p.array, item)
			s.value(item)
			if s.at == start {
				s.at++
			}
		}
	}
}

func (s *scanner) inlineTable(p *value) {
	for {
		s.skipBlank()
		switch s.peek() {
		case 0:
			return
		case '}':
			s.at++
			return
		case ',':
			s.at++
		default:
			start := s.at
			s.pair(p)
			if s.at == start {
				s.at++
			}
		}
	}
}

// skipString passes a string of any of the four kinds, counting its lines.
func (s *scanner) skipString() {
	quote := s.text[s.at : s.at+1]
	rest := s.text[s.at:]
	if long := strings.Repeat(quote, 3); strings.HasPrefix(rest, long) {
		s.skipLongString(long)
		return
	}
	for s.at++; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '\\' && quote == `"`:
			s.at++
		case c == quote[0]:
			s.at++
			return
		case c == '\n':
			return
		}
	}
	s.at = len(s.text)
}

func (s *scanner) skipLongString(quote string) {
	for s.at += 3; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '\n':
			s.line++
		case c == '\\' && quote[0] == '"':
			s.at++
			if s.peek() == '\n' {
				s.line++
			}
		case strings.HasPrefix(s.text[s.at:], quote):
			s.at += 3
			for range 2 { // up to two quotes may stand before the closing three
				if s.peek() == quote[0] {
					s.at++
				}
			}
			return
		}
	}
	s.at = len(s.text)
}

func (s *scanner) new(line int) *value { return &value{src: s.src, line: int32(line)} }

// child returns what stands below key in v, made at line when it is new.
func (s *scanner) child(v *value, key string, line int) *value {
	c := v.at(key)
	if c == nil {
		c = s.new(line)
		v.add(key, c)
	}
	return c
}

// last returns the element that a header below an array of tables speaks of.
func (v *value) last() *value {
	if n := len(v.array); n > 0 {
		return v.array[n-1]
	}
	return v
}

func isBare(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

// unquoteKey returns what a quoted key means.
func unquoteKey(raw string) string {
	if !strings.Contains(raw, `\`) || raw[0] == '\'' {
		return strings.Trim(raw, raw[:1])
	}
	var v struct{ K string }
	if _, err := toml.Decode("K = "+raw, &v); err != nil {
		return raw
	}
	return v.K
}
