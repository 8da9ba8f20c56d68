package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// complaint is an error with a hint: what a parser of one value says.
type complaint struct{ text, hint string }

func (c *complaint) Error() string { return c.text }

func complain(hint, format string, args ...any) error {
	return &complaint{fmt.Sprintf(format, args...), hint}
}

// textAndHint splits what a parser of one value said.
func textAndHint(err error) (text, hint string) {
	if c, ok := errors.AsType[*complaint](err); ok {
		return c.text, c.hint
	}
	return oneLine(err.Error()), ""
}

const day = 24 * time.Hour

// parseDuration reads Go's durations and, before them, days: "90s", "1d12h".
func parseDuration(s string) (time.Duration, error) {
	const hint = `write a number and a unit: "500ms", "30s", "5m", "1h" or "7d"`
	if _, err := strconv.ParseFloat(s, 64); err == nil && s != "0" {
		return 0, complain(fmt.Sprintf("write %q for seconds, or another of ms, m, h, d", s+"s"), "duration %q has no unit", s)
	}
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		days, rest = "0", s
	} else if rest == "" {
		rest = "0"
	}
	n, err := strconv.ParseUint(days, 10, 31)
	if err != nil {
		return 0, complain(hint, "%q is no duration", s)
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 && days != "0" {
		return 0, complain(hint, "%q is no duration", s)
	}
	if n > uint64(math.MaxInt64/day)-1 || d > math.MaxInt64-time.Duration(n)*day {
		return 0, complain("292 years are the most", "duration %q is too long", s)
	}
	return time.Duration(n)*day + d, nil
}

// formatDuration writes d as parseDuration reads it: whole days as such, and without
// the zero units that Duration.String has.
func formatDuration(d time.Duration) string {
	if d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sizeUnit is a unit of sizes.
type sizeUnit struct {
	name  string
	bytes int64
}

// sizeUnits returns those there are, the largest first.
func sizeUnits() []sizeUnit {
	return []sizeUnit{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}
}

// parseSize reads a whole number of B, KiB, MiB or GiB.
func parseSize(s string) (int64, error) {
	const hint = `write a whole number and B, KiB, MiB or GiB: "64KiB"`
	digits := strings.TrimRight(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	unit := s[len(digits):]
	n, err := strconv.ParseInt(strings.TrimRight(digits, " "), 10, 64)
	if err != nil || n < 0 {
		return 0, complain(hint, "%q is no size", s)
	}
	if unit == "" {
		return 0, complain(fmt.Sprintf("write %q for bytes, or KiB, MiB, GiB", s+"B"), "size %q has no unit", s)
	}
	for _, u := range sizeUnits() {
		if u.name != unit {
			continue
		}
		if n > math.MaxInt64/u.bytes {
			return 0, complain(hint, "size %q is too large", s)
		}
		return n * u.bytes, nil
	}
	if u := strings.ToUpper(unit[:1]); strings.Contains("KMG", u) && len(unit) <= 3 {
		return 0, complain(fmt.Sprintf("write %q, sizes count by 1024", strconv.FormatInt(n, 10)+u+"iB"), "size %q has the unit %q", s, unit)
	}
	return 0, complain(hint, "size %q has the unit %q", s, unit)
}

// formatSize writes n bytes in the largest unit that divides them.
func formatSize(n int64) string {
	for _, u := range sizeUnits() {
		if n%u.bytes == 0 && n >= u.bytes {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return "0B"
}

// parseRate reads "20/s" or "600/m"; "" is no limit.
func parseRate(s string) (Rate, error) {
	const hint = `write "20/s" or "600/m", or "" for no limit`
	if s == "" {
		return Rate{}, nil
	}
	digits, unit, _ := strings.Cut(s, "/")
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > maxCount {
		return Rate{}, complain(hint, "%q is no rate", s)
	}
	switch unit {
	case "s":
		return Rate{n, time.Second}, nil
	case "m":
		return Rate{n, time.Minute}, nil
	}
	return Rate{}, complain(hint, "%q is no rate", s)
}

// String returns the form the configuration has it in; the zero Rate is "".
func (r Rate) String() string {
	switch {
	case r.N == 0:
		return ""
	case r.Per == time.Minute:
		return strconv.Itoa(r.N) + "/m"
	}
	return strconv.Itoa(r.N) + "/s"
}

// parsePrefix reads a CIDR or a single address.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, complain(`write an address or a CIDR: "192.0.2.7", "10.0.0.0/8", "2001:db8::/32"`, "%q is no network", s)
	}
	if p.Addr().Is4In6() {
		if p.Bits() < 96 {
			return p, complain(`write "0.0.0.0/0" for all of IPv4`, "network %q holds all of IPv4 and more", s)
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	if p != p.Masked() {
		return p, complain(fmt.Sprintf("write %q for the network, or %q for the address", p.Masked(), p.Addr()), "network %q has bits set behind its /%d", s, p.Bits())
	}
	return p, nil
}

// parseStatus reads "200", "200-299" or several of them with commas.
func parseStatus(s string) ([]StatusRange, error) {
	var out []StatusRange
	for part := range strings.SplitSeq(s, ",") {
		first, last, ok := strings.Cut(strings.TrimSpace(part), "-")
		if !ok {
			last = first
		}
		a, errA := strconv.Atoi(first)
		b, errB := strconv.Atoi(last)
		if errA != nil || errB != nil || a < 100 || b > 599 || a > b {
			return nil, complain(`write "200", "200-299" or "200-299,404"; codes are 100 to 599`, "%q is no status", s)
		}
		out = append(out, StatusRange{a, b})
	}
	return out, nil
}

// String returns the form the configuration has it in.
func (r StatusRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}
