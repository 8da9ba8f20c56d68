//go:build e2e

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestSmoke runs the rig as a user does, one short round of it, and looks at what it wrote: both balancers served
// without a failure and cost something. It judges no figure.
func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	rig, snicket := filepath.Join(dir, "rig"), filepath.Join(dir, "snicket")
	for program, source := range map[string]string{rig: "./benchmarks/rig", snicket: "./cmd/snicket"} {
		run(t, exec.Command("go", "build", "-o", program, source))
	}
	run(t, exec.Command(rig, "-workloads", "connrate,stream-8,tls-full-ecdsa", "-peers", "limit,snicket",
		"-rounds", "1", "-warm", "100ms", "-window", "500ms", "-snicket", snicket, "-out", dir, "-name", "smoke"))

	text, err := os.ReadFile(filepath.Join(dir, "smoke.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Sections) != 3 {
		t.Fatalf("got %d workloads, want 3", len(r.Sections))
	}
	for i, want := range []int{2, 2, 1} { // the limit does not terminate
		s := r.Sections[i]
		if len(s.Peers) != want || len(s.Failures) != 0 {
			t.Errorf("%s: got %d peers and failures %v, want %d and none", s.Name, len(s.Peers), s.Failures, want)
		}
		for _, p := range s.Peers {
			if p.Main.Median <= 0 || p.Samples[0].Result.Failed != 0 {
				t.Errorf("%s, %s: got %v %s and %d failed sessions (%s)", s.Name, p.Peer, p.Main.Median, s.Unit,
					p.Samples[0].Result.Failed, p.Samples[0].Result.Error)
			}
		}
	}
}

// TestProfile has the rig write a profile, which the compiler takes.
func TestProfile(t *testing.T) {
	dir := t.TempDir()
	rig, profile := filepath.Join(dir, "rig"), filepath.Join(dir, "default.pgo")
	run(t, exec.Command("go", "build", "-o", rig, "./benchmarks/rig"))
	run(t, exec.Command(rig, "-pgo", profile, "-warm", "100ms", "-window", "300ms"))
	run(t, exec.Command("go", "build", "-pgo", profile, "-o", filepath.Join(dir, "snicket"), "./cmd/snicket"))
}

func run(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}
