package watch

import (
	"os"
	"path/filepath"
	"strings"
)

// maxLinks bounds the symbolic links on the way to a file, as the kernel does.
const maxLinks = 40

// interest is what there is to watch for a list of files. It is immutable once made.
type interest struct {
	// dirs are the directories to watch, without links in their paths; false for one
	// without which little is lost.
	dirs  map[string]bool
	names map[string]bool // the files, links and directories whose events matter
	// patterns are those of names that matter, by directory.
	patterns map[string][]string
	// real holds directories as they were found without links, by their paths; "" for
	// one that is not there. It spares looking at the same ones for each file.
	real map[string]string
}

func newInterest(files []string) *interest {
	in := &interest{
		dirs: map[string]bool{}, names: map[string]bool{}, patterns: map[string][]string{}, real: map[string]string{},
	}
	for _, file := range files {
		in.add(filepath.Clean(file))
	}
	return in
}

// in reports whether an event of a file matters.
func (in *interest) in(name string) bool {
	if in.names[name] {
		return true
	}
	for _, pattern := range in.patterns[filepath.Dir(name)] {
		if ok, _ := filepath.Match(pattern, filepath.Base(name)); ok {
			return true
		}
	}
	return false
}

// add takes in a path or a pattern, whose directories may be patterns as well.
func (in *interest) add(file string) {
	dir, base := filepath.Split(file)
	dir = filepath.Clean(dir)
	dirs := []string{dir}
	if isPattern(dir) {
		in.add(dir) // one that comes later
		dirs, _ = filepath.Glob(dir)
	}
	for _, dir := range dirs {
		if !isPattern(base) {
			in.follow(filepath.Join(dir, base))
			continue
		}
		// What the pattern matches may itself be links.
		found, _ := filepath.Glob(filepath.Join(Quote(dir), base))
		for _, file := range found {
			in.follow(file)
		}
		if at := in.realDir(dir); at != "" {
			in.watch(at)
			in.patterns[at] = append(in.patterns[at], base)
		}
	}
}

// follow takes in a file and all links that lead to it.
func (in *interest) follow(file string) {
	for range maxLinks {
		dir := in.realDir(filepath.Dir(file))
		if dir == "" {
			return // its directory is not there: what matters is that it comes
		}
		file = filepath.Join(dir, filepath.Base(file))
		in.watch(dir)
		in.names[file] = true
		to, err := os.Readlink(file)
		if err != nil {
			return // a file, or nothing
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(dir, to)
		}
		file = to
	}
}

// watch takes in a directory, and that another may take its name.
func (in *interest) watch(dir string) {
	in.dirs[dir], in.names[dir] = true, true
	if parent := filepath.Dir(dir); !in.dirs[parent] {
		in.dirs[parent] = false
	}
}

// realDir returns a directory without links in its path, or "" for none, and takes in
// what may put another one in its place: the links that lead to it, and its own name.
func (in *interest) realDir(dir string) string {
	if at, ok := in.real[dir]; ok {
		return at
	}
	in.real[dir] = "" // of links in a circle
	at := in.findDir(dir)
	in.real[dir] = at
	return at
}

func (in *interest) findDir(dir string) string {
	if dir == string(filepath.Separator) || dir == "." {
		return dir
	}
	parent := in.realDir(filepath.Dir(dir))
	if parent == "" {
		return ""
	}
	at := filepath.Join(parent, filepath.Base(dir))
	info, err := os.Lstat(at)
	switch {
	case err == nil && info.IsDir():
		return at
	case err != nil || info.Mode()&os.ModeSymlink == 0:
		in.dirs[parent], in.names[at] = true, true
		return ""
	}
	in.dirs[parent], in.names[at] = true, true
	to, err := os.Readlink(at)
	if err != nil {
		return ""
	}
	if !filepath.IsAbs(to) {
		to = filepath.Join(parent, to)
	}
	return in.realDir(filepath.Clean(to))
}

func isPattern(path string) bool { return strings.ContainsAny(path, `*?[\`) }

// Quote returns a pattern that matches path alone, which is path itself but for the
// characters that have a meaning in one.
func Quote(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
