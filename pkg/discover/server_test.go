package discover_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/snicketlb/snicket/pkg/discover"
)

// nameServer is a real DNS server on loopback, UDP and TCP on one port. It answers
// from a table that a test may change at any time.
type nameServer struct {
	t    *testing.T
	addr netip.AddrPort

	mu      sync.Mutex // guards the fields below
	answers map[string]answer
	asked   []string // "A app.test. udp", in order
}

// answer is what the server says to one question. The zero answer is NXDOMAIN.
type answer struct {
	rcode   int
	records []string // of the answer section
	extra   []string // of the additional section
	// handle answers in place of the fields above.
	handle dns.HandlerFunc
}

// records is an answer of these records.
func records(rr ...string) answer { return answer{records: rr} }

// noData is a name without records of the type.
func noData() answer { return records() }

// code is an answer of this response code.
func code(rcode int) answer { return answer{rcode: rcode} }

// silence is no answer at all.
func silence() answer { return answer{handle: func(dns.ResponseWriter, *dns.Msg) {}} }

// startNameServer must be called outside of a bubble: the server's goroutines wait for
// the network, with which no bubble's time can pass.
func startNameServer(t *testing.T) *nameServer {
	t.Helper()
	s := &nameServer{t: t, answers: map[string]answer{}}
	var (
		packets net.PacketConn
		streams net.Listener
		err     error
	)
	for range 20 { // the port may be taken for one of the two
		if packets, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if streams, err = net.Listen("tcp", packets.LocalAddr().String()); err == nil {
			break
		}
		packets.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	s.addr = packets.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: s}, {Listener: streams, Handler: s}} {
		ready := make(chan struct{})
		server.NotifyStartedFunc = func() { close(ready) }
		ended := make(chan error, 1)
		go func() { ended <- server.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() {
			server.Shutdown()
			<-ended
		})
	}
	return s
}

// set changes the answer to a question, such as "A app.test.".
func (s *nameServer) set(question string, a answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[question] = a
}

// count returns how many questions begin with prefix, such as "A app.test. udp".
func (s *nameServer) count(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, q := range s.asked {
		if strings.HasPrefix(q, prefix) {
			n++
		}
	}
	return n
}

// ServeDNS implements [dns.Handler].
func (s *nameServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	question := dns.TypeToString[q.Question[0].Qtype] + " " + q.Question[0].Name
	s.mu.Lock()
	s.asked = append(s.asked, question+" "+w.RemoteAddr().Network())
	a, known := s.answers[question]
	if !known {
		a = code(dns.RcodeNameError)
	}
	s.mu.Unlock()
	if a.handle != nil {
		a.handle(w, q)
		return
	}
	w.WriteMsg(s.reply(w, q, a))
}

// reply is the message that says a, cut to what q's sender takes.
func (s *nameServer) reply(w dns.ResponseWriter, q *dns.Msg, a answer) *dns.Msg {
	m := new(dns.Msg).SetRcode(q, a.rcode)
	m.RecursionAvailable = true
	m.Answer, m.Extra = parseRecords(s.t, a.records), parseRecords(s.t, a.extra)
	if w.RemoteAddr().Network() == "udp" {
		size := dns.MinMsgSize
		if opt := q.IsEdns0(); opt != nil {
			size = int(opt.UDPSize())
		}
		m.Truncate(size)
	}
	return m
}

func parseRecords(t *testing.T, lines []string) []dns.RR {
	var out []dns.RR
	for _, line := range lines {
		rr, err := dns.NewRR(line)
		if err != nil {
			t.Error(err)
		}
		out = append(out, rr)
	}
	return out
}

// a are A records of app.test with a TTL.
func a(ttl int, ips ...string) answer {
	var out []string
	for _, ip := range ips {
		out = append(out, fmt.Sprintf("app.test. %d IN A %s", ttl, ip))
	}
	return records(out...)
}

// system is what a source finds in place of /etc.
type system struct{ hosts, resolvConf string }

// patient waits for an answer longer than any machine stalls; hasty is for questions
// that have none.
var (
	patient = system{resolvConf: "options timeout:30 attempts:1\n"}
	hasty   = system{resolvConf: "options timeout:1 attempts:1\n"}
)

// write puts the files of sys into dir.
func (sys system) write(t *testing.T, dir string) (hosts, resolvConf string) {
	t.Helper()
	hosts, resolvConf = filepath.Join(dir, "hosts"), filepath.Join(dir, "resolv.conf")
	for path, text := range map[string]string{hosts: sys.hosts, resolvConf: sys.resolvConf} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return hosts, resolvConf
}

// run is a source at work.
type run struct {
	t       *testing.T
	source  *discover.Source
	etc     string // the directory of its system
	reports chan discover.Report
	start   time.Time
}

// inBubble runs test with a source at work in a bubble, whose time passes only while
// the source waits for its next look.
func inBubble(t *testing.T, sys system, s discover.Settings, test func(t *testing.T, r *run)) {
	t.Helper()
	etc := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r, stop := start(t, sys, etc, s)
		defer stop()
		test(t, r)
	})
}

func start(t *testing.T, sys system, etc string, s discover.Settings) (r *run, stop func()) {
	t.Helper()
	hosts, resolvConf := sys.write(t, etc)
	source := discover.NewWithPaths(s, hosts, resolvConf)
	r = &run{t: t, source: source, etc: etc, reports: make(chan discover.Report), start: time.Now()}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		source.Run(ctx, func(rep discover.Report) {
			select {
			case r.reports <- rep:
			case <-ctx.Done():
			}
		})
	}()
	return r, func() { cancel(); <-ended }
}

// names are the names of a set.
func names(set []discover.Backend) string {
	var out []string
	for _, b := range set {
		out = append(out, b.Name)
	}
	return strings.Join(out, " ")
}

// next waits for a report and compares its set and its error ("" for none).
func (r *run) next(wantSet, wantErr string) discover.Report {
	r.t.Helper()
	rep := <-r.reports
	if got := names(rep.Backends); got != wantSet {
		r.t.Errorf("got the set %q, want %q", got, wantSet)
	}
	var got string
	if rep.Status.Err != nil {
		got = rep.Status.Err.Error()
	}
	if wantErr == "" && got != "" || !strings.Contains(got, wantErr) {
		r.t.Errorf("got the error %q, want one with %q", got, wantErr)
	}
	if rep.Status.Backends != len(rep.Backends) {
		r.t.Errorf("got a status of %d backends, want %d", rep.Status.Backends, len(rep.Backends))
	}
	return rep
}

// at compares the time since the start.
func (r *run) at(want time.Duration) {
	r.t.Helper()
	if got := time.Since(r.start); got != want {
		r.t.Errorf("got a report after %v, want %v", got, want)
	}
}
