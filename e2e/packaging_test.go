//go:build e2e

package e2e_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestUnit has systemd judge the unit: its syntax, and how little an intruder could do in it.
func TestUnit(t *testing.T) {
	lab.Require(t, "systemd-analyze", "systemd")
	const unit = "../packaging/snicket.service"
	out := mustTool(t, "", "systemd-analyze", "security", "--offline=true", "--no-pager", unit)
	match := regexp.MustCompile(`exposure level for snicket.service: ([0-9.]+)`).FindStringSubmatch(out)
	if match == nil {
		t.Fatalf("no verdict in\n%s", out)
	}
	if exposure, err := strconv.ParseFloat(match[1], 64); err != nil || exposure > 2 {
		t.Errorf("exposure %s (%v), want at most 2.0", match[1], err)
	}
	// What the unit names is not installed here; its keys must be known all the same.
	said, _ := tool(t, "", "systemd-analyze", "verify", "--man=no", unit)
	for line := range strings.Lines(said) {
		if strings.Contains(line, "snicket") && !strings.Contains(line, "is not executable") {
			t.Errorf("systemd says %q", strings.TrimSpace(line))
		}
	}
}

// TestNotify is a service manager: it is told when Snicket is ready, reloads and stops.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	backend := lab.Serve(t, lab.Echo(), lab.Options{})
	config := listener(lab.FreeAddr(t)) + passthrough("a.test", "a", []string{backend.Addr()})
	file := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(config))
	p := lab.Start(t, lab.Command{
		Path: program(t, "cmd/snicket"), Args: []string{"run", "-c", file}, Env: []string{"NOTIFY_SOCKET=" + path},
	})
	told := func(pattern string) {
		t.Helper()
		buf := make([]byte, 4096)
		if err := socket.SetReadDeadline(time.Now().Add(lab.Patience)); err != nil {
			t.Fatal(err)
		}
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatalf("waiting for %s: %v", pattern, err)
		}
		if got := string(buf[:n]); !regexp.MustCompile("^" + pattern + "$").MatchString(got) {
			t.Fatalf("told %q, want %s", got, pattern)
		}
	}
	told("READY=1")
	p.Signal(syscall.SIGHUP)
	told(`RELOADING=1\nMONOTONIC_USEC=\d+`)
	told("READY=1")
	lab.WriteFile(t, file, []byte("nonsense"))
	p.Signal(syscall.SIGHUP) // a reload that fails leaves it as ready as it was
	told(`RELOADING=1\nMONOTONIC_USEC=\d+`)
	told("READY=1")
	p.Signal(syscall.SIGTERM)
	told("STOPPING=1")
	p.Wait(0)
}

// TestPackage builds the packages, installs the .deb into a copy-on-write image of this machine, and serves there with
// the privileges that the unit gives.
func TestPackage(t *testing.T) {
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dist := t.TempDir()
	mustTool(t, "", filepath.Join(root, ".ci/package"), program(t, "cmd/snicket"), "v1.2.3", dist)
	for _, pattern := range []string{"snicket_1.2.3_*.deb", "snicket-1.2.3-1.*.rpm"} {
		if found, _ := filepath.Glob(filepath.Join(dist, pattern)); len(found) != 1 {
			t.Fatalf("%s: got %q, want one", pattern, found)
		}
	}
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: lab.NewAuthority(t, "backend").Server(t, "a.test")})
	addr := lab.FreeAddr(t)
	lab.WriteFile(t, filepath.Join(dist, "a.toml"), []byte(listener(addr)+passthrough("a.test", "a", []string{backend.Addr()})))
	script := lab.WriteFile(t, filepath.Join(dist, "script"), []byte(installScript))
	p := lab.Start(t, lab.Command{Path: "unshare", Args: []string{"--mount", "bash", script, dist}})
	p.WaitLine(`\bmsg=ready\b`)
	c := dial(t, addr)
	if _, err := c.Write(lab.Hello("a.test")); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 1 {
		t.Fatalf("no answer through the installed balancer: %v", err)
	}
	c.Close()
	status := filepath.Join("/proc", strings.TrimSpace(p.WaitLine(`^pid (\d+)$`)[1]), "status")
	text, err := os.ReadFile(status)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`Uid:\s+65534\s`, `CapEff:\s+0000000000000400\n`, `NoNewPrivs:\s+1\n`} {
		if !regexp.MustCompile(want).Match(text) {
			t.Errorf("it runs with other privileges: no %s in\n%s", want, text)
		}
	}
	if err := syscall.Kill(-p.PID(), syscall.SIGTERM); err != nil { // the group: bash waits for it
		t.Fatal(err)
	}
	p.WaitLine(`^purged$`)
	p.Wait(0)
}

// installScript installs, runs and purges in an overlay over /, which is gone with its mount namespace.
const installScript = `
set -euo pipefail
trap : TERM
dist=$1
mkdir "$dist/image"
mount -t tmpfs image "$dist/image"
mkdir "$dist"/image/{upper,work,root}
mount -t overlay overlay -o lowerdir=/,upperdir="$dist/image/upper",workdir="$dist/image/work" "$dist/image/root"
cd "$dist/image/root"
mount -t proc proc proc
cp "$dist"/snicket_*.deb tmp/snicket.deb
chroot . dpkg -i /tmp/snicket.deb
for file in /usr/bin/snicket /usr/lib/systemd/system/snicket.service /usr/share/man/man8/snicket.8.gz \
	/usr/share/bash-completion/completions/snicket /etc/snicket/snicket.toml; do
	[[ -s ./$file ]] || { echo "no $file"; exit 1; }
done
chroot . snicket check -c /etc/snicket/snicket.toml
cp "$dist/a.toml" etc/snicket/conf.d/a.toml
sed -i '/^\[listeners/,/^address/d' etc/snicket/snicket.toml
chmod a+r etc/snicket/conf.d/a.toml
run=$(sed -n 's/^ExecStart=//p' usr/lib/systemd/system/snicket.service)
chroot . setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
	--inh-caps=-all,+net_bind_service --ambient-caps=-all,+net_bind_service --bounding-set=-all,+net_bind_service \
	/bin/sh -c "exec $run" &
echo "pid $!"
wait $! || wait $! || true
chroot . dpkg --purge snicket
[[ ! -e etc/snicket/snicket.toml && ! -e usr/bin/snicket ]] || { echo "something is left"; exit 1; }
echo purged
`

// TestCompletions has each shell read its completion, and bash complete by it.
func TestCompletions(t *testing.T) {
	dir := t.TempDir()
	snicket := program(t, "cmd/snicket")
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			lab.Require(t, shell, shell)
			file := lab.WriteFile(t, filepath.Join(dir, shell), []byte(mustTool(t, "", snicket, "completion", shell)))
			mustTool(t, "", shell, "-n", file)
		})
	}
	for _, tt := range []struct{ line, want string }{
		{"snicket expl", "explain"},
		{"snicket check --eff", "--effective"},
		{"snicket completion f", "fish"},
	} {
		script := `PATH=$1:$PATH; source "$2"; COMP_WORDS=($3); COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _snicket; echo "${COMPREPLY[*]}"`
		got := mustTool(t, "", "bash", "-c", script, "bash", filepath.Dir(snicket), filepath.Join(dir, "bash"), tt.line)
		if strings.TrimSpace(got) != tt.want {
			t.Errorf("%q: got %q, want %q", tt.line, got, tt.want)
		}
	}
}

// TestImage runs what packaging/Containerfile makes, without the program that would make it: a root that holds the
// binary and the file alone and is read-only, and a user who is nobody.
func TestImage(t *testing.T) {
	recipe, err := os.ReadFile("../packaging/Containerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"FROM scratch", "COPY bin/snicket /snicket", "USER 65532:65532", "ENV RUNTIME_DIRECTORY=/run/snicket",
		`ENTRYPOINT ["/snicket"]`, `CMD ["run", "-c", "/etc/snicket/snicket.toml"]`,
	} {
		if !strings.Contains(string(recipe), "\n"+line+"\n") {
			t.Errorf("the recipe has no line %q, which is what is run here", line)
		}
	}
	backend := lab.Serve(t, lab.Echo(), lab.Options{})
	addr := lab.FreeAddr(t)
	file := lab.WriteFile(t, filepath.Join(t.TempDir(), "snicket.toml"), []byte(listener(addr)+passthrough("a.test", "a", []string{backend.Addr()})))
	p := lab.Start(t, lab.Command{Path: "unshare", Args: []string{"--mount", "bash", "-c", `
set -euo pipefail
mount -t tmpfs image "$3"
cd "$3"
mkdir -p etc/snicket run/snicket
cp "$1" snicket && cp "$2" etc/snicket/snicket.toml && chmod 0644 etc/snicket/snicket.toml
mount -t tmpfs -o mode=0700,uid=65532,gid=65532 run run/snicket
mount -o remount,ro .
exec env -i PATH="$PATH" RUNTIME_DIRECTORY=/run/snicket chroot --userspec=65532:65532 . /snicket run -c /etc/snicket/snicket.toml
`, "bash", program(t, "cmd/snicket"), file, t.TempDir()}})
	p.WaitLine(`\bmsg=ready\b`)
	c := dial(t, addr)
	hello := lab.Hello("a.test")
	if _, err := c.Write(hello); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, len(hello))); err != nil {
		t.Fatalf("no echo of the hello through the image: %v", err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/run/snicket/admin.sock", p.PID())); err != nil {
		t.Errorf("no admin socket: %v", err)
	}
	p.Signal(syscall.SIGTERM)
	p.WaitLine(`\bmsg=draining\b`)
	c.Close()
	p.Wait(0)
}
