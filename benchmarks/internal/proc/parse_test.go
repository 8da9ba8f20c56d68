package proc

import (
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const tail = " S 41 42 42 0 -1 4194560 900 17 0 0 120 80 7 5 20 0 3 0 100 1 2"
	want := status{
		parent: 41, user: 1200 * time.Millisecond, system: 800 * time.Millisecond,
		childUser: 70 * time.Millisecond, childSystem: 50 * time.Millisecond,
	}
	for name, line := range map[string]string{
		"plain":       "42 (nginx)" + tail,
		"space":       "42 (nginx: worker)" + tail,
		"parentheses": "42 (a) S 1 2 3 (b)" + tail,
		"new line":    "42 (a\nb)" + tail,
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat([]byte(line))
			if err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
		})
	}
	for name, line := range map[string]string{
		"empty": "", "no name": "42 nginx S 1", "cut": "42 (nginx) S 41 42", "words": "42 (nginx) S x 42 42 0 -1 1 2 3 4 5 6 7 8 9 10",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := parseStat([]byte(line)); err == nil {
				t.Errorf("got %+v, want an error", got)
			}
		})
	}
}

func TestParseRollup(t *testing.T) {
	const text = `55d0c0000000-7ffd00000000 ---p 00000000 00:00 0                          [rollup]
Rss:               18644 kB
Pss:               10240 kB
Pss_Dirty:          2000 kB
Pss_Anon:           2048 kB
Pss_File:           8192 kB
Pss_Shmem:             0 kB
`
	got, err := parseRollup([]byte(text))
	if want := (Memory{PSS: 10 << 20, Private: 2 << 20}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if got, err := parseRollup([]byte("Rss: 1 kB\n")); err == nil {
		t.Errorf("got %+v of a text without Pss, want an error", got)
	}
	if got, err := parseRollup([]byte("Pss: many kB\nPss_Anon: 1 kB\n")); err == nil {
		t.Errorf("got %+v of a size that is no number, want an error", got)
	}
}
