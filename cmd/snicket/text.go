package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How things are told to people.

// printable is text of the network for a terminal: quoted unless it is harmless.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) || r == ' ' }) {
		return strconv.Quote(text)
	}
	return text
}

// lasting is a duration as short as it can be told: two units at most.
func lasting(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// sessionsText is a number of sessions.
func sessionsText(n int) string {
	if n == 1 {
		return "1 session"
	}
	return fmt.Sprintf("%d sessions", n)
}

// since is how long ago that was; empty for never.
func since(t *time.Time) string {
	if t == nil {
		return ""
	}
	return lasting(max(time.Since(*t), 0))
}

// bytesText is a number of bytes with three digits or so.
func bytesText[T int64 | uint64](n T) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/unit, 0
	for ; v >= unit && i < 4; i++ {
		v /= unit
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[i])
}

// sentence is printable for sentences.
func sentence(text string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// othersText are the outcomes beside ok, the most frequent first.
func othersText(ended map[string]uint64) string {
	words := slices.DeleteFunc(slices.Sorted(maps.Keys(ended)), func(word string) bool { return word == "ok" })
	slices.SortStableFunc(words, func(a, b string) int { return int(ended[b]) - int(ended[a]) })
	for i, word := range words {
		words[i] = fmt.Sprintf("%d %s", ended[word], word)
	}
	return strings.Join(words, ", ")
}

// few is at most three names.
func few(names []string) string {
	const most = 3
	if n := len(names); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}

// list is at most ten names, separated by commas.
func list(names []string) string {
	const most = 10
	switch n := len(names); {
	case n == 0:
		return "none"
	case n > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}
