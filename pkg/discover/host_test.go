package discover_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/snicketlb/snicket/pkg/discover"
)

func ask(s *nameServer) discover.Settings {
	return discover.Settings{DNS: "app.test", Port: 443, Resolvers: []netip.AddrPort{s.addr}}
}

func TestAnAnswerCountsForItsTTL(t *testing.T) {
	for _, tt := range []struct {
		name string
		ttl  int
		want time.Duration
	}{
		{"as it says", 30, 30 * time.Second},
		{"none", 0, discover.TTLFloor},
		{"a day", 86400, discover.TTLCeiling},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startNameServer(t)
			s.set("A app.test.", a(tt.ttl, "10.0.0.1"))
			s.set("AAAA app.test.", noData())
			inBubble(t, patient, ask(s), func(_ *testing.T, r *run) {
				rep := r.next("10.0.0.1:443", "")
				if got, want := rep.Status.TTL, time.Duration(tt.ttl)*time.Second; got != want {
					t.Errorf("got the TTL %v, want %v", got, want)
				}
				s.set("A app.test.", a(tt.ttl, "10.0.0.2", "10.0.0.1"))
				r.next("10.0.0.1:443 10.0.0.2:443", "")
				r.at(tt.want)
			})
		})
	}
}

func TestTheShortestTTLCounts(t *testing.T) {
	s := startNameServer(t)
	s.set("A app.test.", records("app.test. 20 IN CNAME b.test.", "b.test. 60 IN A 10.0.0.1", "b.test. 60 IN A 10.0.0.2"))
	s.set("AAAA app.test.", records("app.test. 40 IN AAAA 2001:db8::1"))
	inBubble(t, patient, ask(s), func(_ *testing.T, r *run) {
		r.next("10.0.0.1:443 10.0.0.2:443 [2001:db8::1]:443", "")
		s.set("A app.test.", a(5, "10.0.0.1"))
		r.next("10.0.0.1:443 [2001:db8::1]:443", "")
		r.at(20 * time.Second)
		s.set("AAAA app.test.", noData())
		r.next("10.0.0.1:443", "")
		r.at(25 * time.Second)
	})
}

func TestAFailureKeepsTheLastGoodSet(t *testing.T) {
	for _, tt := range []struct {
		name string
		a    answer // to both questions
		want string
	}{
		{"NXDOMAIN", code(dns.RcodeNameError), "no such name"},
		{"no records", noData(), "no such name or no addresses"},
		{"SERVFAIL", code(dns.RcodeServerFailure), "SERVFAIL"},
		{"REFUSED", code(dns.RcodeRefused), "REFUSED"},
		{"timeout", silence(), "no answer in time"},
		{"unusable", a(30, "0.0.0.0", "224.0.0.1"), "no usable address: 0.0.0.0"},
		{"a ring of aliases", records("app.test. 1 IN CNAME b.test.", "b.test. 1 IN CNAME app.test."), "aliases in a row"},
		{"of another name", records("other.test. 1 IN A 10.9.9.9"), "no such name or no addresses"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startNameServer(t)
			s.set("A app.test.", a(10, "10.0.0.1"))
			s.set("AAAA app.test.", noData())
			inBubble(t, patient, ask(s), func(t *testing.T, r *run) {
				r.next("10.0.0.1:443", "")
				s.set("A app.test.", tt.a)
				s.set("AAAA app.test.", tt.a)
				if tt.name == "timeout" {
					hasty.write(t, r.etc)
				}
				rep := r.next("10.0.0.1:443", tt.want)
				r.at(10 * time.Second)
				if rep.Changed {
					t.Error("got a change, want none")
				}
				if got, want := time.Until(rep.Status.Next), time.Second; got != want {
					t.Errorf("got the next look in %v, want %v", got, want)
				}
				if got, want := time.Since(rep.Status.Good), 10*time.Second; got != want {
					t.Errorf("got the last good look %v ago, want %v", got, want)
				}
				patient.write(t, r.etc)
				s.set("A app.test.", a(10, "10.0.0.1"))
				s.set("AAAA app.test.", noData())
				if rep := r.next("10.0.0.1:443", ""); rep.Changed || rep.Status.Failures != 0 || rep.Status.Failed != 1 {
					t.Errorf("got %+v, want the same set, good again after one failure", rep)
				}
				r.at(11 * time.Second)
			})
		})
	}
}

func TestRepeatedFailuresAreAskedLessOften(t *testing.T) {
	s := startNameServer(t)
	inBubble(t, patient, ask(s), func(t *testing.T, r *run) {
		r.next("", "no such name") // no failed start: a report without backends
		<-time.After(62 * time.Second)
		if got, want := s.count("A app.test."), 7; got != want {
			t.Errorf("got %d looks within 62 s, want %d: at 0, 1, 3, 7, 15, 31 and 61 s", got, want)
		}
		s.set("A app.test.", a(10, "10.0.0.1"))
		s.set("AAAA app.test.", noData())
		r.next("10.0.0.1:443", "")
		r.at(91 * time.Second)
	})
	for failures, want := range map[int]time.Duration{1: time.Second, 5: 16 * time.Second, 6: 30 * time.Second, 1 << 30: 30 * time.Second} {
		if got := discover.RetryAfter(failures); got != want {
			t.Errorf("got %v after %d failures, want %v", got, failures, want)
		}
	}
}

func TestTheOrderOfAnAnswerDoesNotMatter(t *testing.T) {
	s := startNameServer(t)
	ips := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.3"}
	s.set("AAAA app.test.", noData())
	s.set("A app.test.", answer{handle: func(w dns.ResponseWriter, q *dns.Msg) {
		s.mu.Lock()
		ips = append(ips[1:], ips[0])
		now := a(1, ips...)
		s.mu.Unlock()
		w.WriteMsg(s.reply(w, q, now))
	}})
	inBubble(t, patient, ask(s), func(_ *testing.T, r *run) {
		const set = "10.0.0.1:443 10.0.0.2:443 10.0.0.3:443"
		r.next(set, "")
		<-time.After(20500 * time.Millisecond) // a report would block the source
		if got, want := s.count("A app.test."), 21; got != want {
			t.Errorf("got %d looks, want %d without a report", got, want)
		}
		// Flapping is reported as it comes.
		for i := range 3 {
			s.set("A app.test.", a(1, "10.0.0.9"))
			r.next("10.0.0.9:443", "")
			s.set("A app.test.", a(1, "10.0.0.1"))
			r.next("10.0.0.1:443", "")
			r.at(time.Duration(22+2*i) * time.Second)
		}
	})
}

func TestManyAddressesComeOverTCP(t *testing.T) {
	var ips, want []string
	for i := range 200 {
		ips = append(ips, fmt.Sprintf("10.0.%d.%d", i/100, i%100+1))
	}
	for _, ip := range ips {
		want = append(want, ip+":443")
	}
	slices.Reverse(ips)
	s := startNameServer(t)
	s.set("A app.test.", a(10, ips...))
	s.set("AAAA app.test.", noData())
	inBubble(t, patient, ask(s), func(t *testing.T, r *run) {
		r.next(strings.Join(want, " "), "")
		if udp, tcp := s.count("A app.test. udp"), s.count("A app.test. tcp"); udp != 1 || tcp != 1 {
			t.Errorf("got %d questions over UDP and %d over TCP, want one each", udp, tcp)
		}
	})
}

func TestTruncation(t *testing.T) {
	for _, tt := range []struct {
		name       string
		cut        func(packed []byte) []byte
		overTCP    bool
		ips, error string
	}{
		{"within a record", func(b []byte) []byte { return b[:len(b)-7] }, true, "10.0.0.1:443 10.0.0.2:443", ""},
		{"also over TCP", func(b []byte) []byte { return b }, false, "", "truncated also over TCP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startNameServer(t)
			s.set("AAAA app.test.", noData())
			s.set("A app.test.", answer{handle: func(w dns.ResponseWriter, q *dns.Msg) {
				m := s.reply(w, q, a(1, "10.0.0.1", "10.0.0.2"))
				if tcp := w.RemoteAddr().Network() == "tcp"; tcp && tt.overTCP {
					w.WriteMsg(m)
					return
				}
				m.Truncated = true
				packed, err := m.Pack()
				if err != nil {
					t.Error(err)
				}
				w.Write(tt.cut(packed))
			}})
			inBubble(t, patient, ask(s), func(_ *testing.T, r *run) { r.next(tt.ips, tt.error) })
		})
	}
}

func TestOneFamilyFails(t *testing.T) {
	s := startNameServer(t)
	s.set("A app.test.", a(10, "10.0.0.1"))
	s.set("AAAA app.test.", records("app.test. 10 IN AAAA 2001:db8::1"))
	inBubble(t, patient, ask(s), func(_ *testing.T, r *run) {
		r.next("10.0.0.1:443 [2001:db8::1]:443", "")
		s.set("A app.test.", a(10, "10.0.0.2"))
		s.set("AAAA app.test.", code(dns.RcodeServerFailure))
		r.next("10.0.0.2:443 [2001:db8::1]:443", "AAAA: "+s.addr.String()+": SERVFAIL")
		r.at(10 * time.Second)
		s.set("AAAA app.test.", noData())
		r.next("10.0.0.2:443", "")
		r.at(11 * time.Second)
	})
}

func TestAFamilyThatFailsForLong(t *testing.T) {
	for _, tt := range []struct {
		name string
		a    answer
		want int // looks within 60.5 s from the first failure on
	}{
		{"beside fresh addresses of 3 s", a(3, "10.0.0.1"), 22}, // after 1 s, 2 s, then every 3 s
		{"beside another failure", code(dns.RcodeServerFailure), 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startNameServer(t)
			s.set("A app.test.", a(10, "10.0.0.1"))
			s.set("AAAA app.test.", records("app.test. 10 IN AAAA 2001:db8::1"))
			inBubble(t, patient, ask(s), func(t *testing.T, r *run) {
				r.next("10.0.0.1:443 [2001:db8::1]:443", "")
				s.set("A app.test.", tt.a)
				s.set("AAAA app.test.", code(dns.RcodeServerFailure))
				r.next("10.0.0.1:443 [2001:db8::1]:443", "SERVFAIL")
				before := s.count("AAAA app.test.") - 1
				<-time.After(60500 * time.Millisecond)
				if got := s.count("AAAA app.test.") - before; got != tt.want {
					t.Errorf("got %d looks, want %d", got, tt.want)
				}
			})
		})
	}
}

// TestOneFamilyIsDropped runs in real time, of which it needs FamilyGrace.
func TestOneFamilyIsDropped(t *testing.T) {
	s := startNameServer(t)
	s.set("A app.test.", a(10, "10.0.0.1"))
	s.set("AAAA app.test.", silence())
	r, stop := start(t, patient, t.TempDir(), ask(s))
	defer stop()
	r.next("10.0.0.1:443", "AAAA: no answer in time")
}

func TestWhatIsNoAnswerIsPassedOver(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoof func(m *dns.Msg)
	}{
		{"another id", func(m *dns.Msg) { m.Id++ }},
		{"another name", func(m *dns.Msg) { m.Question[0].Name = "app.best." }},
		{"another type", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeTXT }},
		{"no question", func(m *dns.Msg) { m.Question = nil }},
		{"a question itself", func(m *dns.Msg) { m.Response = false }},
		{"another operation", func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }},
		{"garbage", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startNameServer(t)
			s.set("AAAA app.test.", noData())
			s.set("A app.test.", answer{handle: func(w dns.ResponseWriter, q *dns.Msg) {
				if tt.spoof == nil {
					w.Write([]byte{1, 2, 3})
					w.Write([]byte(strings.Repeat("\xff", 40)))
				} else {
					m := s.reply(w, q, a(1, "10.6.6.6"))
					tt.spoof(m)
					w.WriteMsg(m)
				}
				w.WriteMsg(s.reply(w, q, a(10, "10.0.0.1")))
			}})
			inBubble(t, patient, ask(s), func(_ *testing.T, r *run) { r.next("10.0.0.1:443", "") })
		})
	}
}

func TestAliases(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers map[string]answer
		want    string
	}{
		{"in one answer", map[string]answer{
			"A app.test.": records("c.test. 9 IN A 10.0.0.1", "B.test. 9 IN CNAME c.test.", "app.test. 9 IN CNAME b.test."),
		}, "10.0.0.1:443"},
		{"over several", map[string]answer{
			"A app.test.": records("app.test. 9 IN CNAME b.test."),
			"A b.test.":   records("b.test. 9 IN CNAME c.test.", "c.test. 9 IN CNAME d.test."),
			"A d.test.":   records("d.test. 9 IN A 10.0.0.4"),
		}, "10.0.0.4:443"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startNameServer(t)
			for question, a := range tt.answers {
				s.set(question, a)
			}
			inBubble(t, patient, ask(s), func(_ *testing.T, r *run) { r.next(tt.want, "") })
		})
	}
}

func TestServersWithoutEDNSAreAskedWithoutIt(t *testing.T) {
	s := startNameServer(t)
	s.set("AAAA app.test.", noData())
	s.set("A app.test.", answer{handle: func(w dns.ResponseWriter, q *dns.Msg) {
		if q.IsEdns0() != nil {
			w.WriteMsg(new(dns.Msg).SetRcodeFormatError(q))
			return
		}
		w.WriteMsg(s.reply(w, q, a(10, "10.0.0.1")))
	}})
	inBubble(t, patient, ask(s), func(_ *testing.T, r *run) { r.next("10.0.0.1:443", "") })
}

func TestTheNextResolverIsAsked(t *testing.T) {
	closed, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := closed.LocalAddr().(*net.UDPAddr).AddrPort()
	closed.Close()
	for _, tt := range []struct {
		name  string
		first answer
	}{
		{"after a failure", code(dns.RcodeServerFailure)},
		{"after silence", silence()},
		{"after a referral", answer{handle: func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg).SetReply(q)
			m.Ns = parseRecords(t, []string{"test. 60 IN NS ns.test."})
			w.WriteMsg(m)
		}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad, good := startNameServer(t), startNameServer(t)
			bad.set("A app.test.", tt.first)
			bad.set("AAAA app.test.", tt.first)
			good.set("A app.test.", a(10, "10.0.0.1"))
			good.set("AAAA app.test.", records("app.test. 10 IN AAAA 2001:db8::1"))
			settings := ask(bad)
			settings.Resolvers = []netip.AddrPort{refusing, bad.addr, good.addr}
			sys := system{resolvConf: "options timeout:1 attempts:5\n"}
			inBubble(t, sys, settings, func(t *testing.T, r *run) {
				r.next("10.0.0.1:443 [2001:db8::1]:443", "")
				if bad.count("A app.test.") == 0 {
					t.Error("the first server was not asked")
				}
			})
		})
	}
}

func TestSearch(t *testing.T) {
	corp := records("web.corp.test. 9 IN A 10.0.0.1")
	lab := records("web.lab.test. 9 IN A 10.0.0.2")
	bare := records("web. 9 IN A 10.0.0.3")
	dotted := records("web.eu. 9 IN A 10.0.0.4")
	for _, tt := range []struct {
		name, conf, host string
		answers          map[string]answer
		want, error      string
	}{
		{"first domain", "search corp.test lab.test", "web", map[string]answer{"A web.corp.test.": corp, "A web.lab.test.": lab}, "10.0.0.1:443", ""},
		{"second domain", "search corp.test lab.test", "web", map[string]answer{"A web.lab.test.": lab, "A web.": bare}, "10.0.0.2:443", ""},
		{"domain", "domain lab.test", "web", map[string]answer{"A web.lab.test.": lab}, "10.0.0.2:443", ""},
		{"none, at last", "search corp.test", "web", map[string]answer{"A web.": bare}, "10.0.0.3:443", ""},
		{"a dot at the end", "search corp.test", "web.", map[string]answer{"A web.corp.test.": corp, "A web.": bare}, "10.0.0.3:443", ""},
		{"enough dots", "search corp.test", "web.eu", map[string]answer{"A web.eu.": dotted, "A web.eu.corp.test.": records("web.eu.corp.test. 9 IN A 10.0.0.5")}, "10.0.0.4:443", ""},
		{"too few for ndots", "search corp.test\noptions ndots:2", "web.eu", map[string]answer{"A web.eu.": dotted, "A web.eu.corp.test.": records("web.eu.corp.test. 9 IN A 10.0.0.5")}, "10.0.0.5:443", ""},
		{"a failure is no absence", "search corp.test lab.test", "web", map[string]answer{
			"A web.corp.test.": code(dns.RcodeServerFailure), "A web.lab.test.": lab,
		}, "", "SERVFAIL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startNameServer(t)
			for question, a := range tt.answers {
				s.set(question, a)
			}
			settings := discover.Settings{DNS: tt.host, Port: 443, Resolvers: []netip.AddrPort{s.addr}}
			sys := system{resolvConf: tt.conf + "\n" + patient.resolvConf}
			inBubble(t, sys, settings, func(_ *testing.T, r *run) { r.next(tt.want, tt.error) })
		})
	}
}

func TestHostsComeFirst(t *testing.T) {
	s := startNameServer(t)
	s.set("A app.test.", a(10, "10.0.0.1"))
	sys := system{
		resolvConf: patient.resolvConf,
		hosts:      "# 10.0.0.7 app.test\n10.0.0.8 db.test App.Test # app.test\n::ffff:10.0.0.9 app.test\nnonsense app.test\n",
	}
	inBubble(t, sys, ask(s), func(t *testing.T, r *run) {
		r.next("10.0.0.8:443 10.0.0.9:443", "")
		if got := s.count(""); got != 0 {
			t.Errorf("got %d questions, want none", got)
		}
		if got, want := time.Until(nextLook(r)), discover.HostsPoll; got != want {
			t.Errorf("got the next look in %v, want %v", got, want)
		}
	})
}

func nextLook(r *run) time.Time {
	_, st := r.source.Snapshot()
	return st.Next
}

func TestResolvConf(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "[127.0.0.1:53 [::1]:53] [] ndots 1, 5s, 2 times, rotate false"},
		{
			"everything", "nameserver 10.0.0.2\nnameserver fe80::1%eth0\nsearch a.test b.test.\noptions ndots:2 timeout:3 attempts:4 rotate\n",
			"[10.0.0.2:53 [fe80::1%eth0]:53] [a.test. b.test.] ndots 2, 3s, 4 times, rotate true",
		},
		{"too much", "options timeout:900 attempts:90\n# options rotate\nsearch .\n", "[127.0.0.1:53 [::1]:53] [] ndots 1, 30s, 5 times, rotate false"},
	} {
		if got := discover.ResolvConf(tt.text); got != tt.want {
			t.Errorf("%s: got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}
