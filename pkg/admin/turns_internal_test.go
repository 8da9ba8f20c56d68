package admin

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

// TestWhoseTurn: with three turns, two of one origin. A word is somebody who wants one,
// named by origin and number; "-a1" is that a1 gives it back, "!a1" that it waits no more.
func TestWhoseTurn(t *testing.T) {
	for name, tc := range map[string]struct{ script, got string }{
		"room":                      {"a1 b1 c1", "a1 b1 c1"},
		"one waits":                 {"a1 b1 c1 d1", "a1 b1 c1"},
		"in order":                  {"a1 b1 c1 d1 e1 -b1", "a1 c1 d1"},
		"no more than its share":    {"a1 a2 a3", "a1 a2"},
		"others pass":               {"a1 a2 a3 b1", "a1 a2 b1"},
		"its share again":           {"a1 a2 a3 b1 -a1", "a2 a3 b1"},
		"not by the turn of others": {"a1 a2 a3 b1 c1 -b1", "a1 a2 c1"},
		"waits no more":             {"a1 a2 a3 a4 !a3 -a2", "a1 a4"},
		"all are given back":        {"a1 a2 a3 -a1 -a2 -a3", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				turns := newTurns(bound{3, 2})
				has := make(chan string, 16)
				leave, got := map[string]func(){}, []string{}
				for word := range strings.FieldsSeq(tc.script) {
					switch who := word[1:]; word[0] {
					case '-':
						turns.giveBack(who[:1])
						got = slices.DeleteFunc(got, func(s string) bool { return s == who })
					case '!':
						leave[who]()
					default:
						ctx, cancel := context.WithCancel(t.Context())
						leave[word] = cancel
						go func() {
							if turns.take(ctx, word[:1]) {
								has <- word
							}
						}()
					}
					synctest.Wait()
					for len(has) > 0 {
						got = append(got, <-has)
					}
				}
				slices.Sort(got)
				if s := strings.Join(got, " "); s != tc.got {
					t.Errorf("got %q, want %q", s, tc.got)
				}
				for _, cancel := range leave {
					cancel()
				}
				synctest.Wait()
				if turns.n != len(got) || len(turns.queue) != 0 {
					t.Errorf("got %d turns taken and %d that wait, want %d and none", turns.n, len(turns.queue), len(got))
				}
			})
		})
	}
}
