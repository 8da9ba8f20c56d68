package server_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/snicketlb/snicket/internal/lab"
)

// TestPlainTextByName: a name that leads out of the private network is told of where its
// plain text goes there, once for each address, and not where TLS does.
func TestPlainTextByName(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	cert, key := ca.WriteServer(t, "a.test", "b.test", "c.test")
	var names book
	names.set("near.internal", "10.0.0.5", "::1", "fd00::5")
	names.set("far.internal", "10.0.0.6", "203.0.113.9")
	text := fmt.Sprintf(`
[[routes]]
hosts = ["a.test"]
mode  = "terminate"
pool  = "web"
[[routes]]
hosts = ["b.test"]
mode  = "terminate"
pool  = "encrypted"
[[routes]]
hosts = ["c.test"]
pool  = "through"
[pools.web]
backends = ["near.internal:80", "far.internal:80"]
[pools.encrypted]
backends = ["far.internal:8443"]
[pools.through]
backends = ["far.internal:9443"]
[tls]
certificates = [{ cert = %q, key = %q }]
[pools.encrypted.tls]
[pools.encrypted.health]
enabled = false
[pools.through.health]
enabled = false
[pools.web.health]
enabled = false
`, cert, key)
	r := start(t, names.lookup, text)
	const said = `msg="plain text leaves the private network" route=a.test pool=web backend=far.internal:80@`
	r.log.wait(t, said+`203.0.113.9 hint="re-encrypt: \[pools.web.tls\]"`, 1)
	names.set("far.internal", "203.0.113.9", "2001:db8::9")
	r.reload(1, text)
	r.log.wait(t, said+`2001:db8::9`, 1)
	if got := strings.Count(r.log.String(), "leaves the private network"); got != 2 {
		t.Errorf("got told %d times, want 2:\n%s", got, r.log)
	}

	// A route that begins to end TLS is enough, whatever else stays.
	r.reload(2, strings.Replace(text, "hosts = [\"c.test\"]", "hosts = [\"c.test\"]\nmode = \"terminate\"", 1))
	r.log.wait(t, `msg="plain text leaves the private network" route=c.test pool=through backend=far.internal:9443@`, 2)
	r.reload(3, text)
	r.reload(4, strings.Replace(text, "hosts = [\"c.test\"]", "hosts = [\"c.test\"]\nmode = \"terminate\"", 1))
	r.log.wait(t, `msg="plain text leaves the private network" route=c.test pool=through backend=far.internal:9443@`, 4)
}
