package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/snicketlb/snicket/pkg/pace"
)

// Load reads the configuration in path and the files it includes.
//
// The Problems are all that is wrong, in order of file and line. When their Err is
// not nil the Config holds what could be read: good enough to look for further
// problems in (certificates that do not parse), never to run on. It is never nil.
func Load(path string) (*Config, Problems) { return LoadAfter(path, nil) }

// unreadable returns what is known of a main file that err keeps from being read.
func unreadable(path string, err error) (*Config, Problems) {
	p := Problem{Pos: Position{File: path}, Text: reason(err), Hint: "the file is named by -c FILE"}
	if errors.Is(err, errEmpty) {
		p.Hint = "begin with [[routes]], hosts = [\"…\"], backends = [\"…\"]; a full disk or a half-done write leaves such a file"
	}
	c := &Config{Files: []string{path}}
	if at, err := filepath.Abs(path); err == nil {
		c.Sources = []string{quoteGlob(at)}
	}
	return c, Problems{p}
}

const (
	// maxFile bounds a file, in bytes: far more than 100,000 routes take.
	maxFile = 64 << 20
	// pipeWait is how long a pipe, as a shell makes of <(PROGRAM), may be silent.
	pipeWait = 10 * time.Second
)

// errEmpty refuses a main file without one byte: nobody means that.
var errEmpty = errors.New("is empty")

// readText reads a file, or pipe. It waits for no pipe that nobody writes to, as
// whoever reloads obeys no signal meanwhile.
func readText(path string) (string, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(pipeWait)) // what is no pipe has none, and needs none
	var text strings.Builder
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
		text.Grow(int(min(info.Size(), maxFile)))
	}
	n, err := io.Copy(&text, io.LimitReader(f, maxFile+1))
	switch {
	case err != nil:
		return "", err
	case n > maxFile:
		return "", fmt.Errorf("is more than the limit of %s", formatSize(maxFile))
	}
	return text.String(), nil
}

// Parse is Load with the text of the main file given; name is how problems call it,
// and relative paths start at its directory. Included files, certificates and
// whatever else the text names are looked for on disk as Load does.
func Parse(name string, text []byte) (*Config, Problems) { return parse(name, string(text), nil) }

func parse(name, text string, known *known) (*Config, Problems) {
	l := loader{
		d: &decoder{poolIndex: map[string]int{}, noTLS: &RouteTLS{}, known: known}, united: &value{kind: kindTable}, digest: sha256.New(),
	}
	l.main(name, text)
	c := l.d.config(l.united)
	c.Files, c.Sources = l.files, l.sources
	l.digest.Sum(c.Digest[:0])
	return c, l.d.problems.Sort(l.files)
}

// loader unites the main file and those it includes in one tree.
type loader struct {
	d      *decoder
	united *value
	files  []string // as Positions name them
	paths  []string // the same, absolute

	sources []string // Config.Sources
	digest  hash.Hash
}

func (l *loader) main(name, text string) {
	path, err := filepath.Abs(name)
	if err != nil { // the working directory is gone
		l.d.problem(Position{File: name}, "start snicket in a directory that exists", "%v", err)
		path = name
	}
	l.sources = append(l.sources, quoteGlob(path))
	src := &source{name: name, dir: filepath.Dir(path)}
	l.united.src = src
	root, whole := l.file(src, path, text)
	if whole {
		l.unite(root)
	}
	if root != nil {
		l.include(l.d.silent(root))
	}
}

// byteOrderMark begins files of some editors.
const byteOrderMark = "\ufeff"

// file parses one file and checks what concerns it alone. Of a file that is no TOML it
// returns what stands at its top, or nil, and that this is not the whole.
func (l *loader) file(src *source, path, text string) (root *value, whole bool) {
	l.files = append(l.files, src.name)
	l.paths = append(l.paths, path)
	fmt.Fprintf(l.digest, "%q %d\n", path, len(text))
	var walk pace.Walk
	for rest, piece := text, make([]byte, 32<<10); rest != ""; walk.Rest() {
		n := copy(piece, rest)
		l.digest.Write(piece[:n])
		rest = rest[n:]
	}
	if rest, ok := strings.CutPrefix(text, byteOrderMark); ok && !strings.HasPrefix(rest, byteOrderMark) { // toml takes one
		text = rest
	}
	root, headers, ok := l.d.known.parseCut(src, text)
	if !ok {
		var problems Problems
		src.text = text
		if root, headers, problems = parseFile(src); len(problems) > 0 {
			l.d.problems = append(l.d.problems, problems...)
			l.d.unread = true
			return root, false
		}
	}
	l.d.table(root, rootTable, root.pos())
	l.d.strayHeaders(src, headers)
	return root, true
}

// unread notes a file that is meant to be part of the configuration and is not.
func (l *loader) unread(at Position, hint, format string, args ...any) {
	l.d.problem(at, hint, format, args...)
	l.d.unread = true
}

// include reads the files that the main file, root, names.
func (l *loader) include(root table) {
	if v := root.get("include"); v != nil && (v.kind != kindArray || slices.ContainsFunc(v.array, func(v *value) bool { return v.kind != kindString })) {
		l.d.unread = true
	}
	for _, e := range root.entries("include") {
		src := root.v.src
		if e.text == "" {
			l.unread(e.at, "drop it", "include has an empty name")
			continue
		}
		if !isGlob(e.text) {
			path := resolvePath(e.text, src.dir)
			l.sources = append(l.sources, quoteGlob(path))
			if slices.Contains(l.paths, path) {
				l.d.problem(e.at, "drop it", "include %q is already part of the configuration", e.text)
				continue
			}
			l.read(e, path, displayName(src, e.text, path))
			continue
		}
		l.sources = append(l.sources, absolutePattern(e.text, src.dir))
		found, err := expand(e.text, src.dir)
		if err != nil {
			text, hint := textAndHint(err)
			l.unread(e.at, hint, "include: %s", text)
			continue
		}
		for _, path := range found {
			if path = filepath.Clean(path); !slices.Contains(l.paths, path) {
				l.read(e, path, displayName(src, e.text, path))
			}
		}
	}
}

// displayName is how problems call an included file: as the main file's name and the
// include say it, relative if both are.
func displayName(main *source, include, path string) string {
	if filepath.IsAbs(include) {
		return path
	}
	rel, err := filepath.Rel(main.dir, path)
	if err != nil {
		return path
	}
	return filepath.Join(filepath.Dir(main.name), rel)
}

// read parses one included file and unites it with the rest.
func (l *loader) read(e entry, path, name string) {
	if err := readable(path); err != nil {
		text, hint := textAndHint(err)
		l.unread(e.at, hint, "include %q: %s", name, text)
		return
	}
	text, err := readText(path)
	if err != nil {
		l.unread(e.at, fileHint(err), "include %q: %s", name, reason(err))
		return
	}
	root, whole := l.file(&source{name: name, dir: filepath.Dir(path)}, path, text)
	if !whole {
		return
	}
	if v := root.at("include"); v != nil {
		l.unread(v.pos(), "name the file in the main one", "an included file includes nothing")
	}
	l.unite(root)
}

// unite adds the tables of one file: [[routes]] are joined, named tables united.
// What two files name is a problem that names both places.
func (l *loader) unite(root *value) {
	for _, key := range root.keys() {
		v := root.at(key)
		switch key {
		case "include":
		case "routes":
			if v.kind != kindArray {
				l.d.wrongType(v, key, kindArray.String(), "write [[routes]] with two brackets")
				continue
			}
			if have := l.united.at(key); have != nil {
				have.array = append(have.array, v.array...)
				continue
			}
			l.add(l.united, key, v, key)
		case "listeners", "pools":
			if v.kind != kindTable {
				l.d.wrongType(v, key, kindTable.String(), fmt.Sprintf("write it as [%s.NAME]", key))
				continue
			}
			if l.united.at(key) == nil {
				l.add(l.united, key, &value{src: v.src, line: v.line, kind: kindTable}, key)
			}
			for _, name := range v.keys() {
				l.add(l.united.at(key), name, v.at(name), key+"."+bareOrQuoted(name))
			}
		default:
			if slices.Contains(keysOf(rootTable), key) { // all others are refused already
				l.add(l.united, key, v, key)
			}
		}
	}
}

// add puts v under key, unless something is there.
func (l *loader) add(to *value, key string, v *value, name string) {
	if have := to.at(key); have != nil {
		l.d.problem(v.pos(), "keep one of them", "[%s] is also at %s", name, have.pos())
		return
	}
	to.add(key, v)
}

// strayHeaders warns of [routes.tls] and the like that stand behind another table:
// TOML gives them to the last [[routes]], which a reader may not expect.
func (d *decoder) strayHeaders(src *source, headers []header) {
	var route, between *header
	for i, h := range headers {
		switch {
		case len(h.path) == 0:
		case h.path[0] != "routes":
			between = &headers[i]
		case len(h.path) == 1:
			route, between = &headers[i], nil
		case between != nil && route != nil:
			d.warning(Position{src.name, h.line}, "move it up to the [[routes]] it is meant for",
				"[%s] belongs to the [[routes]] in line %d, and [%s] stands between",
				dotted(h.path), route.line, dotted(between.path))
		}
	}
}

// dotted writes a path as a header has it.
func dotted(path []string) string {
	out := make([]string, len(path))
	for i, key := range path {
		out[i] = bareOrQuoted(key)
	}
	return strings.Join(out, ".")
}
