package health

import (
	"fmt"
	"strconv"
	"strings"
)

// StatusRange is a range of HTTP statuses, both ends included.
type StatusRange struct{ Min, Max int }

// String returns the range as ParseStatus reads it: "200-299", or "204".
func (r StatusRange) String() string {
	if r.Min == r.Max {
		return strconv.Itoa(r.Min)
	}
	return strconv.Itoa(r.Min) + "-" + strconv.Itoa(r.Max)
}

// ParseStatus reads a list of statuses and ranges of them, such as "200-299" or
// "200,204,300-399". The error says which part is wrong.
func ParseStatus(s string) ([]StatusRange, error) {
	var ranges []StatusRange
	for part := range strings.SplitSeq(s, ",") {
		low, high, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			high = low
		}
		from, err1 := parseCode(low)
		to, err2 := parseCode(high)
		if err1 != nil || err2 != nil || from > to {
			return nil, fmt.Errorf("status %q: want 100 to 599, as in \"204\" or \"200-299\"", part)
		}
		ranges = append(ranges, StatusRange{from, to})
	}
	return ranges, nil
}

func parseCode(s string) (int, error) {
	s = strings.TrimSpace(s)
	if len(s) != 3 {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, err
	}
	if n < 100 || n > 599 {
		return 0, strconv.ErrRange
	}
	return int(n), nil
}

func formatStatus(ranges []StatusRange) string {
	parts := make([]string, len(ranges))
	for i, r := range ranges {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}
