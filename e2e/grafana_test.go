//go:build e2e

package e2e_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestGrafanaDashboard compares the dashboard for Grafana with the types that Grafana publishes of its schema, and tries
// that the comparison finds what would be wrong.
func TestGrafanaDashboard(t *testing.T) {
	dir := npm(t, "testdata/grafana", "types.ts")
	types, dashboard := read(t, filepath.Join(dir, "types.ts")), read(t, filepath.Join(monitoring, "dashboard.json"))
	compile := func(text string) (string, error) {
		file := lab.WriteFile(t, filepath.Join(dir, "dashboard.ts"), []byte(types+"export const dashboard: Plain<Ours> = "+text))
		tsc := exec.CommandContext(t.Context(), "node", "node_modules/typescript/bin/tsc", "--noEmit", "--strict", "--skipLibCheck",
			"--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler", file)
		tsc.Dir = dir
		out, err := tsc.CombinedOutput()
		return string(out), err
	}
	if out, err := compile(dashboard); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for name, wrong := range map[string]struct{ was, is, said string }{
		"a key that is none":         {`"gridPos": {`, `"gridPosition": {`, "'\"gridPosition\"' does not exist"},
		"a word that is none":        {`"colorMode": "value"`, `"colorMode": "valu"`, `"valu"' is not assignable`},
		"an option of another panel": {`"type": "bargauge"`, `"type": "timeseries"`, "does not exist"},
		"a panel that is none":       {`"type": "timeseries"`, `"type": "graph"`, `"graph"' is not assignable`},
		"a query without its text":   {`"expr": "sum`, `"expression": "sum`, "'\"expression\"' does not exist"},
	} {
		text := strings.Replace(dashboard, wrong.was, wrong.is, 1)
		if text == dashboard {
			t.Errorf("%s: the dashboard has no %s", name, wrong.was)
		}
		if out, err := compile(text); err == nil || !strings.Contains(out, wrong.said) {
			t.Errorf("%s: got %v, want an error with %s\n%s", name, err, wrong.said, out)
		}
	}
}
