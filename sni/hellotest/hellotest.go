// Package hellotest reads the hello table: files that each hold the first bytes of
// a connection, how to send them, and what a balancer has to make of them. The
// same table is held against the parser, a whole balancer, and other balancers.
//
// A file NAME.hello is a header of "key: value" lines, a line "---", and the
// stream in hexadecimal:
//
//	about: one record, the usual case
//	name: a.test
//	expect: ok
//	outcome: ok
//	backend: a
//	alert: -
//	segments: all
//	---
//	16030100c8010000c40303…
//	00 * 4096
//
// about is one sentence. name is the server name read, empty for none. expect is
// "ok" or the [Word] of the error. The next three belong to a balancer that has one
// route for a.test and one for everything else ("*" and "-"): the outcome
// it logs (ok, bad-hello, not-tls, hello-too-large), the backend reached (a,
// default, none), and the alert the client reads, a number or "-". segments is
// the [Plan] for sending. Hexadecimal digits may be broken by spaces and lines; a
// line "HH * N" is the byte HH, N times.
//
// Only tests have a use for this package.
package hellotest

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/snicketlb/snicket/sni"
)

// NoAlert is [Case.Alert] where none is sent.
const NoAlert = -1

// Case is one file of the table.
type Case struct {
	Name       string // the file's, without directory and ending
	About      string
	ServerName string
	Expect     string // "ok", or the Word of the error
	Outcome    string
	Backend    string
	Alert      int // NoAlert for none
	Plan       Plan
	Stream     []byte
}

// Segments returns the stream cut as the plan says; the parts alias Stream.
func (c Case) Segments() [][]byte { return c.Plan.Cut(c.Stream) }

// Load reads all *.hello files of dir, in order of their names.
func Load(dir string) ([]Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.hello"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no *.hello file in %s", dir)
	}
	slices.Sort(files)
	cases := make([]Case, 0, len(files))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		c, err := Parse(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		c.Name = strings.TrimSuffix(filepath.Base(file), ".hello")
		cases = append(cases, c)
	}
	return cases, nil
}

// Parse reads the content of one file. It leaves Name empty.
func Parse(data []byte) (Case, error) {
	header, body, found := bytes.Cut(data, []byte("\n---\n"))
	if !found {
		return Case{}, errors.New("no line \"---\"")
	}
	var c Case
	seen := map[string]bool{}
	for line := range strings.Lines(string(header)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		if seen[key] {
			return Case{}, fmt.Errorf("key %q comes twice", key)
		}
		seen[key] = true
		if err := c.set(key, strings.TrimSpace(value)); err != nil {
			return Case{}, err
		}
	}
	for _, key := range []string{"about", "name", "expect", "outcome", "backend", "alert", "segments"} {
		if !seen[key] {
			return Case{}, fmt.Errorf("no key %q", key)
		}
	}
	var err error
	c.Stream, err = parseHex(string(body))
	return c, err
}

func (c *Case) set(key, value string) (err error) {
	switch key {
	case "about":
		c.About = value
	case "name":
		c.ServerName = value
	case "expect":
		c.Expect = value
	case "outcome":
		c.Outcome = value
	case "backend":
		c.Backend = value
	case "alert":
		c.Alert = NoAlert
		if value != "-" {
			c.Alert, err = strconv.Atoi(value)
		}
	case "segments":
		c.Plan, err = ParsePlan(value)
	default:
		err = fmt.Errorf("unknown key %q", key)
	}
	return err
}

func parseHex(text string) ([]byte, error) {
	var stream []byte
	for line := range strings.Lines(text) {
		digits, count, repeated := strings.Cut(line, "*")
		b, err := hex.DecodeString(strings.Join(strings.Fields(digits), ""))
		if err != nil {
			return nil, err
		}
		n := 1
		if repeated {
			if n, err = strconv.Atoi(strings.TrimSpace(count)); err != nil || n < 0 {
				return nil, fmt.Errorf("bad count in %q", line)
			}
		}
		stream = append(stream, bytes.Repeat(b, n)...)
	}
	return stream, nil
}

// Format is the inverse of Parse: the file for c.
func (c Case) Format() []byte {
	alert := "-"
	if c.Alert != NoAlert {
		alert = strconv.Itoa(c.Alert)
	}
	var b bytes.Buffer
	for _, line := range [][2]string{
		{"about", c.About},
		{"name", c.ServerName},
		{"expect", c.Expect},
		{"outcome", c.Outcome},
		{"backend", c.Backend},
		{"alert", alert},
		{"segments", string(c.Plan)},
	} {
		b.WriteString(strings.TrimSuffix(line[0]+": "+line[1], " ") + "\n")
	}
	b.WriteString("---\n")
	for s := c.Stream; len(s) > 0; {
		run := 1
		for run < len(s) && s[run] == s[0] {
			run++
		}
		if run >= 64 {
			fmt.Fprintf(&b, "%02x * %d\n", s[0], run)
			s = s[run:]
			continue
		}
		n := min(len(s), 32)
		fmt.Fprintf(&b, "%x\n", s[:n])
		s = s[n:]
	}
	return b.Bytes()
}

// Plan says into which segments a stream is cut for sending, as a list of items with
// commas between them: "all" or "rest" is one segment of all that is left, "N" one of
// N bytes, "CxN" C of N bytes each. The last item holds until nothing is left. So "1" sends
// byte by byte, and "40x1,rest" forty bytes one by one and then the others at once.
type Plan string

// ParsePlan checks that s is a plan.
func ParsePlan(s string) (Plan, error) {
	for item := range strings.SplitSeq(s, ",") {
		if _, _, err := planItem(item); err != nil {
			return "", fmt.Errorf("segments %q: %w", s, err)
		}
	}
	return Plan(s), nil
}

// planItem returns how many segments of which size item says; size 0 is the rest.
func planItem(item string) (count, size int, err error) {
	if item == "all" || item == "rest" {
		return 1, 0, nil
	}
	count = 1
	if c, s, found := strings.Cut(item, "x"); found {
		if count, err = strconv.Atoi(c); err != nil {
			return 0, 0, fmt.Errorf("bad item %q", item)
		}
		item = s
	}
	size, err = strconv.Atoi(item)
	if err != nil || size < 1 || count < 1 {
		return 0, 0, fmt.Errorf("bad item %q", item)
	}
	return count, size, nil
}

// Cut returns the segments of stream, which they alias. It panics if p is no plan.
func (p Plan) Cut(stream []byte) [][]byte {
	var segments [][]byte
	cut := func(n int) {
		segments = append(segments, stream[:n:n])
		stream = stream[n:]
	}
	size := 0
	for item := range strings.SplitSeq(string(p), ",") {
		count, n, err := planItem(item)
		if err != nil {
			panic(fmt.Sprintf("hellotest: plan %q: %v", p, err))
		}
		for size = n; count > 0 && len(stream) > 0; count-- {
			if size == 0 {
				cut(len(stream))
				break
			}
			cut(min(size, len(stream)))
		}
	}
	for len(stream) > 0 {
		cut(min(size, len(stream)))
	}
	return segments
}

// Word returns the word of the table for what [sni.Parse] returned: "ok" for nil, "more"
// for ErrMore, the sentinel's name in kebab case for a refusal, "" for anything else.
func Word(err error) string {
	if err == nil {
		return "ok"
	}
	for _, w := range []struct {
		err  error
		word string
	}{
		{sni.ErrMore, "more"},
		{sni.ErrNotTLS, "not-tls"},
		{sni.ErrSSLv2, "sslv2"},
		{sni.ErrDTLS, "dtls"},
		{sni.ErrRecordVersion, "record-version"},
		{sni.ErrEmptyRecord, "empty-record"},
		{sni.ErrRecordTooLarge, "record-too-large"},
		{sni.ErrInterleaved, "interleaved"},
		{sni.ErrTrailing, "trailing"},
		{sni.ErrNotClientHello, "not-client-hello"},
		{sni.ErrTooLarge, "too-large"},
		{sni.ErrLength, "length"},
		{sni.ErrBounds, "bounds"},
		{sni.ErrDuplicateExtension, "duplicate-extension"},
		{sni.ErrPreSharedKey, "pre-shared-key"},
		{sni.ErrServerName, "server-name"},
		{sni.ErrServerNames, "server-names"},
	} {
		if errors.Is(err, w.err) {
			return w.word
		}
	}
	return ""
}
