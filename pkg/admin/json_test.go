package admin_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/pkg/admin"
)

// What clients call themselves is text, in a terminal too, and comes out as it went in.
func TestWriteJSON(t *testing.T) {
	for name, want := range map[string]string{
		"a.test": `"a.test"`, "grüße.test 東京 👍": `"grüße.test 東京 👍"`, `"\`: `"\"\\"`,
		"\x1b[2J": `"\u001b[2J"`, "\x7f": `"\u007f"`, "\u009b2J": `"\u009b2J"`, "\u202etset.a": `"\u202etset.a"`,
		"a\u200bb\u00a0c": `"a\u200bb\u00a0c"`, "\U000e0041": `"\udb40\udc41"`, "\xff": `"\ufffd"`, "</script>": `"\u003c/script\u003e"`,
	} {
		var b strings.Builder
		if err := admin.WriteJSON(&b, name, ""); err != nil {
			t.Fatal(err)
		}
		if got := b.String(); got != want+"\n" {
			t.Errorf("%q: got %s, want %s", name, got, want)
		}
		var back string
		if err := json.Unmarshal([]byte(b.String()), &back); err != nil || back != strings.ToValidUTF8(name, "\ufffd") {
			t.Errorf("%q: got %q, %v back", name, back, err)
		}
	}
	var b strings.Builder
	if err := admin.WriteJSON(&b, admin.Other{Listener: "l", Pattern: "\u009b"}, "  "); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "{\n  \"listener\": \"l\",\n  \"pattern\": \"\\u009b\"\n}\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := admin.WriteJSON(&b, make(chan int), ""); err == nil {
		t.Error("got no error for what JSON has no word for")
	}
}
