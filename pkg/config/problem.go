package config

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// Position is a place in a configuration file.
type Position struct {
	File string // as the operator would write it
	Line int    // from 1; 0: the file as a whole, or a default that no line wrote
}

// String returns FILE:LINE, or FILE alone when the line is not known.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return p.File + ":" + strconv.Itoa(p.Line)
}

// Problem is one thing wrong with a configuration, or, as a warning, one that is
// allowed and probably not meant.
type Problem struct {
	Pos     Position
	Warning bool
	Text    string // what is wrong
	Hint    string // what to do about it; may be empty
}

// String returns FILE:LINE: what: hint, with "warning: " before the what of a
// warning. It is one line.
func (p Problem) String() string {
	var b strings.Builder
	if at := p.Pos.String(); at != "" {
		b.WriteString(at)
		b.WriteString(": ")
	}
	if p.Warning {
		b.WriteString("warning: ")
	}
	b.WriteString(p.Text)
	if p.Hint != "" {
		b.WriteString(": ")
		b.WriteString(p.Hint)
	}
	return b.String()
}

// Problems is everything found wrong, in order of file and line.
type Problems []Problem

// Err returns nil when all of ps are warnings, else an error that says every
// problem which is not, one a line.
func (ps Problems) Err() error {
	var errs []error
	for _, p := range ps {
		if !p.Warning {
			errs = append(errs, errors.New(p.String()))
		}
	}
	return errors.Join(errs...)
}

// bad says that one of ps is no warning.
func (ps Problems) bad() bool {
	return slices.ContainsFunc(ps, func(p Problem) bool { return !p.Warning })
}

// Warnings returns the problems that are warnings.
func (ps Problems) Warnings() Problems {
	var ws Problems
	for _, p := range ps {
		if p.Warning {
			ws = append(ws, p)
		}
	}
	return ws
}

// Sort orders ps by file, in the order of files, and by line, and drops what is
// said twice. Whoever adds problems of its own sorts again, with Config.Files.
func (ps Problems) Sort(files []string) Problems {
	rank := func(file string) int {
		if i := slices.Index(files, file); i >= 0 {
			return i
		}
		return len(files)
	}
	slices.SortStableFunc(ps, func(a, b Problem) int {
		return cmp.Or(
			cmp.Compare(rank(a.Pos.File), rank(b.Pos.File)),
			strings.Compare(a.Pos.File, b.Pos.File),
			cmp.Compare(a.Pos.Line, b.Pos.Line),
		)
	})
	return slices.Compact(ps)
}
