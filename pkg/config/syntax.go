package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxSyntax bounds the syntax errors told of one file.
const maxSyntax = 10

// parseFile reads the TOML of one file. What toml refuses comes back as Problems; the
// value is then what stands above the first table before it, or nil.
func parseFile(src *source) (*value, []header, Problems) {
	var tree map[string]any
	if _, err := toml.Decode(src.text, &tree); err != nil {
		return parseHead(src), nil, syntaxProblems(src, err)
	}
	root, headers, _ := scan(src, src.text, 1, nil)
	join(tree, root)
	return root, headers, nil
}

// parseHead reads the keys above the first table of a file that is no TOML: include
// stands there, and the other files can be looked at all the same.
func parseHead(src *source) *value {
	const maxTries = 8 // a line that begins with a bracket may also be part of a list
	text, end, tries := src.text, 0, 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "[") {
			if tries++; isTOML(text[:end]) || tries == maxTries {
				break
			}
		}
		end += len(line)
	}
	var tree map[string]any
	if _, err := toml.Decode(text[:end], &tree); err != nil {
		return nil
	}
	root, _, _ := scan(src, text[:end], 1, nil)
	join(tree, root)
	return root
}

func isTOML(text string) bool {
	var tree map[string]any
	_, err := toml.Decode(text, &tree)
	return err == nil
}

// syntaxProblems puts err, which toml found in text, into our words. toml stops at the
// first error: the line is taken out and the rest tried again, while it is plain that
// no error told then comes from the line being out.
func syntaxProblems(src *source, err error) Problems {
	var problems Problems
	lines := strings.SplitAfter(src.text, "\n")
	for len(problems) < maxSyntax {
		p := syntaxProblem(src, err)
		problems = append(problems, p)
		if !takeOut(lines, p.Pos.Line) {
			break
		}
		var tree map[string]any
		if _, err = toml.Decode(strings.Join(lines, ""), &tree); err == nil {
			break
		}
	}
	last := &problems[len(problems)-1]
	last.Hint += "; the rest of the file is read once this is mended"
	return problems
}

// takeOut replaces line n, counted from 1, by one that is TOML, if it is a whole
// statement: it begins where one may, and opens nothing that other lines close.
func takeOut(lines []string, n int) bool {
	if n < 1 || n > len(lines) || !isTOML(strings.Join(lines[:n-1], "")) || isTOML(strings.Join(lines[:n], "")) {
		return false
	}
	line, header := strings.TrimSpace(lines[n-1]), false
	if header = strings.HasPrefix(line, "["); header {
		line, _, _ = strings.Cut(line, "#")
	}
	switch {
	case header && strings.Trim(line, "[] \t") == "routes": // what follows belongs to a route
		lines[n-1] = "[[routes]]\n"
	case header: // what follows must not fall to the table before
		lines[n-1] = fmt.Sprintf("[\"line %d\"]\n", n)
	case strings.Count(line, "[") != strings.Count(line, "]"),
		strings.Count(line, "{") != strings.Count(line, "}"),
		strings.Contains(line, `"""`), strings.Contains(line, "'''"):
		return false
	default:
		lines[n-1] = "\n"
	}
	return isTOML(strings.Join(lines[:n], ""))
}

// syntaxProblem puts an error of the toml package into our words.
func syntaxProblem(src *source, err error) Problem {
	pe, ok := errors.AsType[toml.ParseError](err)
	if !ok {
		return Problem{Pos: Position{File: src.name}, Text: err.Error(), Hint: "write the file anew"}
	}
	line := pe.Position.Line
	inHeader := strings.Contains(pe.Message, "name delimiter") || strings.Contains(pe.Message, "to end table name")
	if inHeader && strings.Contains(pe.Message, `got '\n'`) {
		line-- // toml has counted the end of the line
	}
	p := Problem{Pos: Position{src.name, max(line, 1)}, Text: "not valid TOML, " + clause(pe.Message)}
	switch {
	case inHeader:
		p.Hint = "headers are [table] or [[routes]], with a bracket for each one opened"
	case strings.Contains(pe.Message, "already"):
		p.Hint = "a key or table stands once in a file; [[routes]] with two brackets may repeat"
	case strings.Contains(pe.Message, "expected value but found"), strings.Contains(pe.Message, "expected a top-level item to end"), strings.Contains(pe.Message, "boolean"):
		p.Hint = `text values stand in quotes, like "1h"`
	case strings.Contains(pe.Message, "strings cannot contain newlines"), strings.Contains(pe.Message, "expected '\"'"):
		p.Hint = "close the string with a quote on its own line"
	case strings.Contains(pe.Message, "array terminator"):
		p.Hint = fmt.Sprintf("close the list %q with ], and put a comma between its entries", pe.LastKey)
	case strings.Contains(pe.Message, "inline table terminator"):
		p.Hint = "close the table with }, and put a comma between its keys"
	case strings.Contains(pe.Message, "UTF-8"):
		p.Hint = "save the file as UTF-8"
	case pe.LastKey != "":
		p.Hint = fmt.Sprintf("look at and after the key %q", pe.LastKey)
	default:
		p.Hint = `a line is key = value, [table] or # comment`
	}
	return p
}

// clause makes a sentence of the toml package part of one of ours.
func clause(s string) string {
	s = strings.TrimSuffix(oneLine(s), ".")
	for _, word := range []string{"Key ", "Invalid "} {
		if rest, ok := strings.CutPrefix(s, word); ok {
			return strings.ToLower(word) + rest
		}
	}
	return s
}
