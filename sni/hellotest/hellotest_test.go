package hellotest_test

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/sni/hellotest"
)

func TestPlanCut(t *testing.T) {
	stream := []byte("abcdefgh")
	for _, tc := range []struct{ plan, want string }{
		{"all", "[abcdefgh]"},
		{"rest", "[abcdefgh]"},
		{"1", "[a b c d e f g h]"},
		{"3", "[abc def gh]"},
		{"3x1,rest", "[a b c defgh]"},
		{"5,1,4", "[abcde f gh]"},
		{"2x2,1", "[ab cd e f g h]"},
		{"100", "[abcdefgh]"},
		{"4,4,4", "[abcd efgh]"},
	} {
		plan, err := hellotest.ParsePlan(tc.plan)
		if err != nil {
			t.Errorf("ParsePlan(%q): %v", tc.plan, err)
			continue
		}
		if got := fmt.Sprintf("%s", plan.Cut(stream)); got != tc.want {
			t.Errorf("%q cuts %s, want %s", tc.plan, got, tc.want)
		}
	}
	for _, bad := range []string{"", "0", "-1", "x", "0x1", "1x0", "1,", "some"} {
		if _, err := hellotest.ParsePlan(bad); err == nil {
			t.Errorf("ParsePlan(%q) = nil error", bad)
		}
	}
}

func TestFormatParse(t *testing.T) {
	want := hellotest.Case{
		About: "a case: with a colon", ServerName: "", Expect: "length", Outcome: "bad-hello",
		Backend: "none", Alert: 50, Plan: "40x1,rest",
		Stream: bytes.Join([][]byte{[]byte("start"), make([]byte, 100), []byte("end")}, nil),
	}
	got, err := hellotest.Parse(want.Format())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParseErrors(t *testing.T) {
	good := string(hellotest.Case{Alert: hellotest.NoAlert, Plan: "all", Stream: []byte{1}}.Format())
	for _, tc := range []struct{ name, from, to, want string }{
		{"no separator", "\n---\n", "\n--\n", `no line "---"`},
		{"unknown key", "about:", "abuot:", `unknown key "abuot"`},
		{"missing key", "about:\n", "", `no key "about"`},
		{"double key", "about:", "about:\nabout:", `key "about" comes twice`},
		{"bad alert", "alert: -", "alert: x", `parsing "x"`},
		{"bad plan", "segments: all", "segments: 0", `bad item "0"`},
		{"bad hex", "01\n", "0g\n", "invalid byte"},
		{"bad count", "01\n", "01 * x\n", "bad count"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := hellotest.Parse([]byte(strings.Replace(good, tc.from, tc.to, 1)))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got error %v, want one with %q", err, tc.want)
			}
		})
	}
}
