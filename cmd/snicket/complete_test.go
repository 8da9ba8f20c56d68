package main

import "testing"

// TestCandidateLine: each shell gets a candidate in its own form, and none gets a name
// that it would take for more than a word.
func TestCandidateLine(t *testing.T) {
	for _, tc := range []struct {
		shell, want string
		x           candidate
	}{
		{"bash", "web/10.0.0.5:443", candidate{"web/10.0.0.5:443", "ready"}},
		{"zsh", `web/10.0.0.5\:443:ready`, candidate{"web/10.0.0.5:443", "ready"}},
		{"bash", "web/[fe80::1]:443", candidate{"web/[fe80::1]:443", ""}},
		{"zsh", `web/[fe80\:\:1]`, candidate{"web/[fe80::1]", ""}},
		{"fish", "web/10.0.0.5:443\tready", candidate{"web/10.0.0.5:443", "ready"}},
		{"fish", "日本", candidate{"日本", ""}},
		{"zsh", "a:one?two", candidate{"a", "one\ntwo"}},
		{"zsh", "two words:about", candidate{"two words", "about"}},
		{"bash", "", candidate{"$(reboot)", ""}},
		{"bash", "", candidate{"`reboot`", ""}},
		{"bash", "", candidate{"two words", "about"}},
		{"fish", "", candidate{"a\nb", ""}},
		{"bash", "", candidate{"", ""}},
	} {
		if got := tc.x.line(tc.shell); got != tc.want {
			t.Errorf("%s, %q: got %q, want %q", tc.shell, tc.x, got, tc.want)
		}
	}
}
