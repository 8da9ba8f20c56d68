//go:build e2e

package e2e_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// BenchmarkIdle measures what a terminated session holds of memory that has passed some bytes and fallen silent, to a
// plain backend and to one with TLS: an operation is a session, KiB/session is the share of the balancer's process (PSS).
func BenchmarkIdle(b *testing.B) {
	edge, inner := lab.NewAuthority(b, "edge"), lab.NewAuthority(b, "inner")
	cert, key := edge.WriteServer(b, "a.test")
	for _, bb := range []struct {
		name    string
		backend *lab.Server
		tls     string
	}{
		{"plain", lab.Serve(b, lab.Echo(), lab.Options{}), ""},
		{
			"reencrypted", lab.Serve(b, lab.Echo(), lab.Options{TLS: inner.Server(b, "a.test")}),
			fmt.Sprintf("[pools.a.tls]\nca = %q\n", inner.WriteCA(b)),
		},
	} {
		for _, size := range []int{100, 16 << 10} {
			b.Run(fmt.Sprintf("%s-%d", bb.name, size), func(b *testing.B) {
				addr := lab.FreeAddr(b)
				p := run(b, listener(addr)+terminated("a.test", "a", cert, key, []string{bb.backend.Addr()})+bb.tls+
					"[pools.a.health]\nenabled = false\n[log]\naccess = \"off\"\n")
				ask(b, addr, edge.Client("a.test"), "first")
				before := proportionalSet(b, p.PID())
				buf := make([]byte, size)
				var held []*tls.Conn
				for b.Loop() {
					c, err := tls.Dial("tcp", addr, edge.Client("a.test"))
					if err != nil {
						b.Fatal(err)
					}
					held = append(held, c)
					if _, err := c.Write(buf); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(c, buf); err != nil {
						b.Fatal(err)
					}
				}
				<-time.After(3 * time.Second) // what handshakes leave behind is collected once it is quiet
				b.ReportMetric(float64(proportionalSet(b, p.PID())-before)/float64(len(held)), "KiB/session")
				b.ReportMetric(0, "ns/op") // of no meaning
				for _, c := range held {
					c.Close()
				}
			})
		}
	}
}

// proportionalSet is the memory of a process, what it shares with others by its part, in KiB.
func proportionalSet(b *testing.B, pid int) int {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.SplitSeq(string(text), "\n") {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "Pss:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				b.Fatal(err)
			}
			return n
		}
	}
	b.Fatal("no Pss")
	return 0
}
