package certs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
)

// minSecret is the least that a secret of tickets may hold: as much as the keys made
// of it.
const minSecret = 32

// Secret reads a secret that [Tickets] are made of: the bytes of a file, of which a
// line break at the end does not count, as copying adds and loses it. It returns nil
// and the problem if the file cannot be read or holds less than 32 bytes.
func Secret(file string) ([]byte, []Problem) {
	b, err := readFile(file)
	if err != nil {
		if e, ok := errors.AsType[*fs.PathError](err); ok {
			err = e.Err // the problem names the file
		}
		return nil, []Problem{{File: file, Text: fmt.Sprintf("cannot be read: %v", err)}}
	}
	if len(b) < minSecret {
		return nil, []Problem{{
			File: file, Text: fmt.Sprintf("secret of %d bytes, at least %d are needed", len(b), minSecret),
			Hint: "write random bytes, the same for all that share sessions: openssl rand -out FILE 48",
		}}
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(b, []byte("\n")), []byte("\r")), nil
}
