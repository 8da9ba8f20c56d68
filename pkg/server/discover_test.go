package server_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/server"
)

// put replaces a file as a careful writer does.
func put(t *testing.T, path, text string) {
	t.Helper()
	lab.WriteFile(t, path+".new", []byte(text))
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// TestDiscoverFile follows a file that another program writes: what is new serves, what
// is gone drains, what is broken changes nothing.
func TestDiscoverFile(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	one, two := named(t, ca, "one"), named(t, ca, "two")
	names := new(book)
	names.set("two.internal", "127.0.0.1")
	file := filepath.Join(t.TempDir(), "backends.json")
	put(t, file, fmt.Sprintf("[%q]", one.Addr()))
	text := webRoute + fmt.Sprintf("[pools.web.discover]\nfile = %q\n[pools.web.health]\nenabled = false\n", file)
	r := start(t, names.lookup, text)
	r.log.wait(t, `msg="backends discovered" pool=web from="file \S+" backends=1 changes="added: `+one.Addr()+`"`, 1)
	if got := r.ask(ca); got != "one" {
		t.Errorf("got %q, want one", got)
	}
	kept, err := r.dial(ca, "a.test")
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()

	// Another one, by a name, with one that is not ready for anything else.
	put(t, file, fmt.Sprintf(`[{"address": "two.internal:%d", "name": "second"}, {"address": %q, "name": "spare", "backup": true}]`,
		two.AddrPort().Port(), one.Addr()))
	r.log.wait(t, `msg="backends discovered" .*changes="added: second, spare; removed: `+one.Addr()+`"`, 1)
	r.log.wait(t, `msg="backend removed" pool=web backend=`+one.Addr(), 1)
	r.serves(ca) // once the name is resolved
	for range 4 {
		if got := r.ask(ca); got != "two" {
			t.Errorf("got %q, want two", got)
		}
	}
	if got := name(t, kept); got != "one" {
		t.Errorf("got %q in a session of a removed backend, want one", got)
	}

	// Half a file, and none at all.
	put(t, file, `["127.0.0.1:1", `)
	r.log.wait(t, `level=WARN msg="discovery failed" pool=web from="file \S+" why=".*backends.json:1: .*" backends_kept=2`, 1)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	r.log.wait(t, `msg="discovery failed" .*no such file or directory.* backends_kept=2`, 1)
	if got := r.ask(ca); got != "two" {
		t.Errorf("got %q, want two", got)
	}

	// A reload keeps what is known, although the source fails.
	r.reload(1, text+"fall = 9\n")
	if got := r.ask(ca); got != "two" {
		t.Errorf("after a reload: got %q, want two", got)
	}
	put(t, file, fmt.Sprintf("[%q]", one.Addr()))
	r.log.wait(t, `msg="discovery works"`, 1)
	r.log.wait(t, `msg="backend removed" pool=web backend=second@127.0.0.1`, 1)
	if got := r.ask(ca); got != "one" {
		t.Errorf("got %q, want one", got)
	}
}

// TestDiscoverNothing starts without a file: the pool has no backend until there is one.
func TestDiscoverNothing(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	one := named(t, ca, "one")
	file := filepath.Join(t.TempDir(), "backends.json")
	text := webRoute + fmt.Sprintf("[pools.web.discover]\nfile = %q\n[pools.web.health]\nenabled = false\n", file)
	r := start(t, nil, text)
	r.log.wait(t, `msg="discovery failed" pool=web from="file \S+" why=".*no such file or directory" backends_kept=0`, 1)
	r.refused(ca, "a.test", "internal error")
	put(t, file, fmt.Sprintf("[%q]", one.Addr()))
	r.log.wait(t, `msg="backends discovered"`, 1)
	r.serves(ca)
}

// serves waits until a session comes about.
func (r *running) serves(ca *lab.Authority) {
	r.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(lab.Patience); ; {
		c, err := r.dial(ca, "a.test")
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-tick.C:
		case <-late:
			r.t.Fatalf("no session: %v", err)
		}
	}
}

// TestDiscoverGoes replaces a source by backends, and one source by another.
func TestDiscoverGoes(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	one, two := named(t, ca, "one"), named(t, ca, "two")
	dir := t.TempDir()
	put(t, filepath.Join(dir, "one.json"), fmt.Sprintf("[%q]", one.Addr()))
	put(t, filepath.Join(dir, "two.json"), fmt.Sprintf("[%q]", two.Addr()))
	const health = "health = { enabled = false }\n"
	source := func(name string) string {
		return webRoute + fmt.Sprintf("[pools.web]\n%sdiscover = { file = %q }\n", health, filepath.Join(dir, name+".json"))
	}
	r := start(t, nil, source("one"))
	for i, step := range []struct{ text, want string }{
		{source("two"), "two"},
		{webRoute + fmt.Sprintf("[pools.web]\n%sbackends = [%q]\n", health, one.Addr()), "one"},
		{source("two"), "two"},
	} {
		r.reload(i+1, step.text)
		if got := r.ask(ca); got != step.want {
			t.Errorf("reload %d: got %q, want %q", i+1, got, step.want)
		}
	}
}

func TestProbeDiscovered(t *testing.T) {
	dir := t.TempDir()
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	lab.WriteFile(t, filepath.Join(dir, "backends.json"), fmt.Appendf(nil, "[%q]", echo.Addr()))
	path := filepath.Join(dir, "snicket.toml")
	lab.WriteFile(t, path, []byte(webRoute+`
[[routes]]
hosts = ["b.test"]
pool = "none"
[pools.web.discover]
file = "backends.json"
[pools.none.discover]
file = "none.json"
`))
	got, err := server.Probe(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Pool != "none" || got[0].Source != "file "+filepath.Join(dir, "none.json") || got[0].Err == nil ||
		got[1].Backend != echo.Addr() || got[1].Err != nil || !got[1].Probed {
		t.Errorf("got %+v, want the source of none failed and one backend of web ready", got)
	}
}

// TestDiscoverOtherServers has a source ask other servers, which are silent: what the
// former ones said stays in use.
func TestDiscoverOtherServers(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	one := named(t, ca, "one")
	asked := nameServer(t, "127.0.0.1")
	text := func(server string) string {
		return webRoute + fmt.Sprintf("[pools.web]\nhealth = { enabled = false }\ndiscover = { dns = \"app.internal.:%d\", resolvers = [%q] }\n",
			one.AddrPort().Port(), server)
	}
	r := start(t, nil, text(asked))
	if got := r.ask(ca); got != "one" {
		t.Fatalf("got %q, want one", got)
	}
	// A name is not known there: the answer comes at once and says nothing.
	r.reload(1, text(nameServer(t)))
	if got := r.ask(ca); got != "one" {
		t.Errorf("got %q, want one", got)
	}
	r.log.wait(t, `msg="discovery failed" pool=web .* backends_kept=1`, 1)
	for _, line := range []string{`msg="backend removed"`, `changes=".*removed: `, `backends_kept=0`} {
		if regexp.MustCompile(line).MatchString(r.log.String()) {
			t.Errorf("got %s in:\n%s", line, r.log)
		}
	}
}

// nameServer answers every question for an A record with these addresses, over UDP.
func nameServer(t *testing.T, addresses ...string) string {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		var reply dns.Msg
		reply.SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			for _, a := range addresses {
				reply.Answer = append(reply.Answer, &dns.A{
					Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60},
					A:   net.ParseIP(a),
				})
			}
		}
		_ = w.WriteMsg(&reply) // who asked may be gone
	})}
	serving, served := make(chan struct{}), make(chan error, 1)
	s.NotifyStartedFunc = func() { close(serving) }
	go func() { served <- s.ActivateAndServe() }()
	<-serving
	t.Cleanup(func() {
		if err := s.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return packets.LocalAddr().String()
}
