package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Agent is the probe of kind agent: it asks a program beside the backend how the
// backend does. It speaks the protocol of HAProxy's agent-check, so that agents
// written for that work here: the agent answers a connection with one line of
// words, which ends with CR or LF or with the connection. Words are separated by
// spaces, tabs or commas, in any case, at most one of each kind:
//
//   - up, down, stopped, fail: whether the backend works. Text after a "#" says
//     why not.
//   - ready, drain, maint: what the agent wishes to be done with the backend,
//     apart from whether it works.
//   - a percentage, "75%": the share of its configured weight that the backend
//     shall have.
//   - maxconn:N is read over.
//
// What the agent leaves out stays as it last said. An agent that cannot be
// reached is a failure, other than in HAProxy, where another probe runs beside it.
type Agent struct {
	TCP

	// Send is written first: HAProxy's agent-send.
	Send []byte
}

// Wish is what an agent wishes to be done with its backend.
type Wish uint8

const (
	// NoWish has never been spoken of, or not this time.
	NoWish Wish = iota
	// WishReady takes back the other ones.
	WishReady
	// WishDrain is that sessions go on and no new ones come.
	WishDrain
	// WishMaint is that no new ones come, for work on the backend.
	WishMaint
)

// String returns the agent's word, "" for NoWish.
func (w Wish) String() string {
	switch w {
	case NoWish:
		return ""
	case WishReady:
		return "ready"
	case WishDrain:
		return "drain"
	case WishMaint:
		return "maint"
	}
	return "Wish(" + strconv.Itoa(int(w)) + ")"
}

// AgentReport is what an agent said beside whether its backend works.
type AgentReport struct {
	// Said is Up or Down as the agent said, Unknown if it said neither: then its
	// last word stands.
	Said State

	Wish Wish

	// Weight is a percentage of the configured weight, and counts only if Weighs
	// is set. It may be 0, or above 100.
	Weight int
	Weighs bool
}

// over returns what stands after a report that follows another.
func (r AgentReport) over(former AgentReport) AgentReport {
	if r.Wish == NoWish {
		r.Wish = former.Wish
	}
	if !r.Weighs {
		r.Weight, r.Weighs = former.Weight, former.Weighs
	}
	r.Said = Unknown
	return r
}

// agentError is an agent's own word that its backend does not work.
type agentError struct{ text string }

func (e *agentError) Error() string { return e.text }

// maxLine bounds an agent's line.
const maxLine = 1 << 10

// maxPercent bounds what an agent may raise a weight to.
const maxPercent = 10_000

// Probe connects, sends Send and reads a line. The Observation holds the report
// also if the agent says that the backend does not work.
func (p Agent) Probe(ctx context.Context) (Observation, error) {
	conn, err := p.connect(ctx)
	if err != nil {
		return Observation{}, err
	}
	defer reset(conn)
	defer guard(ctx, conn, 0)()
	if len(p.Send) > 0 {
		if _, err := conn.Write(p.Send); err != nil {
			return Observation{}, explain("send", err)
		}
	}
	line, err := readLine(conn)
	if err != nil {
		return Observation{}, err
	}
	report, err := ParseAgent(line)
	return Observation{Agent: report}, err
}

// readLine reads up to the end of a line or of the connection.
func readLine(r io.Reader) (string, error) {
	var buf [maxLine]byte
	for n := 0; n < len(buf); {
		m, err := r.Read(buf[n:])
		if end := bytes.IndexAny(buf[:n+m], "\r\n"); end >= 0 {
			return string(buf[:end]), nil
		}
		n += m
		switch {
		case err == nil:
		case errors.Is(err, io.EOF) && n > 0:
			return string(buf[:n]), nil
		case errors.Is(err, io.EOF):
			return "", errors.New("read EOF after 0 bytes, want an agent's line")
		case isTimeout(err) && n == 0:
			return "", ErrNoAnswer
		case isTimeout(err):
			return "", fmt.Errorf("%s, then no more, want an agent's line", heard(buf[:n]))
		default:
			return "", explain("read", err)
		}
	}
	return "", fmt.Errorf("agent's line of more than %d bytes", maxLine)
}

// ParseAgent reads an agent's line, without its end. The error is the agent's
// word that its backend does not work, "agent says down: no disk", or says what is
// wrong with the line; the report counts in the first case only.
func ParseAgent(line string) (AgentReport, error) {
	words, text, _ := strings.Cut(line, "#")
	var r AgentReport
	var down string
	separated := strings.FieldsFunc(words, func(c rune) bool { return c == ' ' || c == '\t' || c == ',' })
	if len(separated) == 0 {
		return AgentReport{}, fmt.Errorf("agent's line %s holds no word", quoted([]byte(line)))
	}
	for _, word := range separated {
		switch lower := strings.ToLower(word); lower {
		case "up":
			r.Said = Up
		case "down", "stopped", "fail":
			r.Said, down = Down, lower
		case "ready":
			r.Wish = WishReady
		case "drain":
			r.Wish = WishDrain
		case "maint":
			r.Wish = WishMaint
		default:
			if err := r.number(lower); err != nil {
				return AgentReport{}, err
			}
		}
	}
	if r.Said != Down {
		return r, nil
	}
	says := "agent says " + down
	if text = strings.TrimSpace(text); text != "" {
		says += ": " + printable(text)
	}
	return r, &agentError{brief(says)}
}

// number reads a word that holds one: "75%" or "maxconn:30".
func (r *AgentReport) number(word string) error {
	digits, isPercent := strings.CutSuffix(word, "%")
	if !isPercent {
		limit, isLimit := strings.CutPrefix(word, "maxconn:")
		if !isLimit {
			return fmt.Errorf("agent's word %s is not known", quoted([]byte(word)))
		}
		digits = limit
	}
	n, err := strconv.ParseUint(digits, 10, 31)
	if err != nil || isPercent && n > maxPercent {
		return fmt.Errorf("agent's word %s: want a number, and of a percentage at most %d", quoted([]byte(word)), maxPercent)
	}
	if isPercent {
		r.Weight, r.Weighs = int(n), true
	}
	return nil
}

// printable replaces what would change a terminal or break a line.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if strconv.IsPrint(c) {
			return c
		}
		return '?'
	}, s)
}
