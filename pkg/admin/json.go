package admin

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// WriteJSON writes v and a line feed, with one Write. Text that a client sent is in it:
// what cannot be seen is written as an escape, so that no terminal takes it for a command
// (as U+009B, which begins one) and no eye for something else (as U+202E, which turns
// the rest around). With an indent, each value is in a line of its own.
func WriteJSON(w io.Writer, v any, indent string) error {
	out := json.NewEncoder(plainWriter{w})
	out.SetIndent("", indent)
	return out.Encode(v)
}

// plainWriter writes JSON in plain. It is for json.Encoder, which writes it in one piece.
type plainWriter struct{ w io.Writer }

// Write implements io.Writer.
func (p plainWriter) Write(text []byte) (int, error) {
	if _, err := p.w.Write(plain(text)); err != nil {
		return 0, err
	}
	return len(text), nil
}

// plain is JSON in which all that is not printable is escaped. encoding/json does so up to
// U+001F.
func plain(text []byte) []byte {
	if !bytes.ContainsFunc(text, hidden) {
		return text
	}
	out := make([]byte, 0, len(text)+64)
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if hidden(r) {
			for _, unit := range utf16.Encode([]rune{r}) {
				out = append(out, '\\', 'u')
				out = append(out, strconv.FormatUint(0x10000|uint64(unit), 16)[1:]...)
			}
		} else {
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	return out
}

// hidden reports whether r, of JSON, is nothing that can be seen: it stands in a string.
func hidden(r rune) bool { return r >= 0x7f && !strconv.IsPrint(r) }
