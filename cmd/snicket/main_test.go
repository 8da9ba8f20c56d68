package main

import (
	"slices"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"snicket": main}) }

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup:               stage(t),
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status": status, "expand": expand, "serving": serving, "session": session, "untaken": untaken, "told": told, "offered": offered, "refused": refused, "kill-first": killFirst,
		},
	})
}

// status runs "status N snicket ARGS…", which must exit with N; stdout and stderr
// are as after exec.
func status(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = err.Error()
	}
	want := args[0]
	if want != "0" {
		want = "exit status " + want
	}
	if got != want {
		ts.Fatalf("got %s, want %s", got, want)
	}
}

func TestPermute(t *testing.T) {
	app := newApp(nil, nil, nil)
	for _, tc := range []struct{ args, want []string }{
		{[]string{"snicket"}, []string{"snicket"}},
		{[]string{"snicket", "--help", "x"}, []string{"snicket", "--help", "x"}},
		{
			[]string{"snicket", "explain", "a.test", "--alpn", "h2", "-c", "f"},
			[]string{"snicket", "explain", "--alpn", "h2", "-c", "f", "--", "a.test"},
		},
		{
			[]string{"snicket", "explain", "-", "--from=10.0.0.1"},
			[]string{"snicket", "explain", "--from=10.0.0.1", "--", "-"},
		},
		{[]string{"snicket", "hello", "f", "--json"}, []string{"snicket", "hello", "--json", "--", "f"}},
		{[]string{"snicket", "hello", "--", "--json"}, []string{"snicket", "hello", "--", "--json"}},
		{[]string{"snicket", "check", "-c"}, []string{"snicket", "check", "-c"}},
	} {
		if got := permute(app, tc.args); !slices.Equal(got, tc.want) {
			t.Errorf("%q: got %q, want %q", tc.args, got, tc.want)
		}
	}
}
