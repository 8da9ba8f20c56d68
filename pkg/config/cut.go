package config

import (
	"slices"
	"strings"

	"github.com/BurntSushi/toml"

	"github.com/snicketlb/snicket/pkg/pace"
)

// runLength is how many routes are read in one go.
const runLength = 128

// A gap is where the text of a file had a route.
type gap struct {
	at       int32 // where it begins in what is left
	line     int32 // of its header
	lines    int32 // up to what stands behind it
	from, to int32 // where it stood
	route    int32 // of known; -1: it is to be read
}

// parseCut reads the TOML of one file, text, with its routes apart from all else: those
// that are known not at all, the others a run at a time. It reports whether it could; it
// cannot what is no TOML, and is not for small files.
func (k *known) parseCut(src *source, text string) (root *value, headers []header, ok bool) {
	left, first, gaps := k.cut(text)
	if len(gaps) == 0 {
		return nil, nil, false
	}
	src.text = left
	var tree map[string]any
	if _, err := toml.Decode(left, &tree); err != nil {
		return nil, nil, false
	}
	if root, headers, ok = scan(src, left, 1, gaps); !ok {
		return nil, nil, false
	}
	join(tree, root)
	return root, headers, fill(root, first, text, gaps)
}

// cut takes the routes out of the text of a file, but for the one that begins at first:
// beside that it can be seen what else goes by the name of routes. It judges by lines alone.
// Whether the first is a route, and a statement can begin where each gap is, is for scan to
// say; what was in a gap, for readRun. A file with nothing to spare is left as it is.
func (k *known) cut(text string) (left string, first int32, gaps []gap) {
	var (
		out                    strings.Builder
		known                  bool
		written, line, opening = 0, int32(0), int32(0)
		start                  = -1
	)
	first = -1
	if k != nil {
		gaps = make([]gap, 0, len(k.texts)+len(k.texts)/8)
	}
	end := func(at int) { // of the route that began at start
		if start < 0 {
			return
		}
		if first < 0 {
			first = int32(start)
		} else {
			out.WriteString(text[written:start])
			written = at
			g := gap{
				at: int32(out.Len()), line: opening, lines: line - opening, from: int32(start), to: int32(at), route: k.find(text[start:at]),
			}
			known = known || g.route >= 0
			gaps = append(gaps, g)
		}
		start = -1
	}
	var walk pace.Walk
	for at := 0; at < len(text); {
		walk.Step()
		line++
		next := len(text)
		if i := strings.IndexByte(text[at:], '\n'); i >= 0 {
			next = at + i + 1
		}
		switch opens(text[at:next]) {
		case opensNothing:
		case opensPart:
			if start < 0 {
				return text, 0, nil // of which route it is part cannot be told
			}
		case opensRoute:
			end(at)
			start, opening = at, line
		case opensTable:
			end(at)
		case opensUnclear:
			return text, 0, nil
		}
		at = next
	}
	end(len(text))
	if !known && len(gaps) < 2*runLength {
		return text, 0, nil
	}
	out.WriteString(text[written:])
	return out.String(), first, gaps
}

// opening is what a line seems to begin.
type opening uint8

const (
	opensNothing opening = iota
	opensRoute           // [[routes]]
	opensPart            // [routes.tls] and the like
	opensTable           // any other
	opensUnclear         // any of them
)

func opens(line string) opening {
	line = strings.TrimLeft(line, " \t")
	if line == "" || line[0] != '[' {
		return opensNothing
	}
	name := strings.TrimPrefix(line[1:], "[")
	double := len(name) < len(line)-1
	name = strings.TrimLeft(name, " \t")
	n := 0
	for n < len(name) && isBare(name[n]) {
		n++
	}
	rest := strings.TrimLeft(name[n:], " \t")
	switch {
	case n == 0: // in quotes, or no header at all
		return opensUnclear
	case name[:n] != "routes":
		return opensTable
	case strings.HasPrefix(rest, "."):
		return opensPart
	case double && strings.HasPrefix(rest, "]]"):
		return opensRoute
	}
	return opensUnclear
}

// fill puts behind the first of the routes in root, all that there may be, what stood in the
// gaps of text, its own: of those that are known one value for as many as stand together. It
// reports whether it could.
func fill(root *value, first int32, text string, gaps []gap) bool {
	routes := root.at("routes")
	if routes == nil || len(routes.array) != 1 || routes.array[0].from != first || routes.array[0].to == 0 {
		return false
	}
	var walk pace.Walk
	for len(gaps) > 0 {
		n := 1
		if gaps[0].route >= 0 {
			for n < len(gaps) && gaps[n].route >= 0 {
				n++
			}
			routes.array = append(routes.array, &value{src: root.src, line: gaps[0].line, kind: kindKnown, scalar: gaps[:n]})
		} else {
			for n < min(len(gaps), runLength) && gaps[n].route < 0 && gaps[n].from == gaps[n-1].to {
				n++
			}
			walk.Rest()
			run, ok := readRun(root.src, text, gaps[:n])
			if !ok {
				return false
			}
			routes.array = append(routes.array, run...)
		}
		gaps = gaps[n:]
	}
	return true
}

// readRun reads the routes that stood in gaps, one behind the other. It reports whether
// they are TOML by themselves, and as many as there are gaps.
func readRun(of *source, text string, gaps []gap) ([]*value, bool) {
	src := *of
	src.text = strings.Clone(text[gaps[0].from:gaps[len(gaps)-1].to]) // routes keep it, and must not keep the file
	var tree map[string]any
	if _, err := toml.Decode(src.text, &tree); err != nil || len(tree) != 1 {
		return nil, false
	}
	root, _, _ := scan(&src, src.text, gaps[0].line, nil)
	join(tree, root)
	routes := root.at("routes")
	ok := routes != nil && slices.EqualFunc(routes.array, gaps, func(v *value, g gap) bool { return v.line == g.line })
	if !ok {
		return nil, false
	}
	return routes.array, true
}
