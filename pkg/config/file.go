package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// resolvePath returns path, starting at dir unless it is absolute, in short form.
func resolvePath(path, dir string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(dir, path)
}

// isGlob says that path is a pattern for filepath.Match.
func isGlob(path string) bool { return strings.ContainsAny(path, "*?[") }

// expand returns the files that pattern matches, sorted by name. Like a shell it
// passes over names that begin with a dot, which are an editor's or a package
// manager's, unless the pattern asks for them.
func expand(pattern, dir string) ([]string, error) {
	found, err := filepath.Glob(absolutePattern(pattern, dir))
	if err != nil {
		return nil, complain("close the bracket, or write [[] for one that means itself", "%q: %v", pattern, err)
	}
	if !strings.HasPrefix(filepath.Base(pattern), ".") {
		found = slices.DeleteFunc(found, func(path string) bool { return strings.HasPrefix(filepath.Base(path), ".") })
	}
	slices.Sort(found)
	return found, nil
}

// absolutePattern is a pattern that starts at dir.
func absolutePattern(pattern, dir string) string {
	if filepath.IsAbs(pattern) {
		return pattern
	}
	return filepath.Join(quoteGlob(dir), pattern)
}

// quoteGlob returns a pattern that matches path alone.
func quoteGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// readable returns nil when path is a regular file that this process can read.
func readable(path string) error {
	if err := printable(path); err != nil {
		return err
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return complain(fileHint(err), "%s", reason(err))
	case info.IsDir():
		return complain(`name the file, or "DIR/*.pem" for all in it`, "is a directory")
	case !info.Mode().IsRegular(): // opening a pipe would wait for its writer
		return complain("name a regular file", "is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return complain(fileHint(err), "%s", reason(err))
	}
	f.Close() // read only: nothing can be lost
	return nil
}

// isDir says that path is a directory.
func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// reason returns what the system said, without the path, which the caller has.
func reason(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return err.Error()
}

func fileHint(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "relative paths start at the file that holds them"
	case errors.Is(err, fs.ErrPermission):
		return "let the user that runs snicket read it"
	}
	return ""
}

// printable refuses names that would garble a log line or the effective file.
func printable(s string) error {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return complain("use printable UTF-8", "%q has characters that do not print", s)
	}
	return nil
}
