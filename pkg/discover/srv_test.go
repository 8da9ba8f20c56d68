package discover_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/snicketlb/snicket/pkg/discover"
)

const srvName = "_https._tcp.app.test"

func askSRV(s *nameServer) discover.Settings {
	return discover.Settings{SRV: srvName, Resolvers: []netip.AddrPort{s.addr}}
}

// srv is a record of a TTL of 20 s: priority, weight, port and target.
func srv(priority, weight, port int, target string) string {
	return fmt.Sprintf("%s. 20 IN SRV %d %d %d %s.", srvName, priority, weight, port, target)
}

// ranked shows a set with tiers and weights: "10.0.0.1:443/0*5".
func ranked(set []discover.Backend) string {
	var out []string
	for _, b := range set {
		out = append(out, fmt.Sprintf("%s/%d*%d", b.Name, b.Tier, b.Weight))
	}
	return strings.Join(out, " ")
}

func TestSRV(t *testing.T) {
	a1, a2 := "a.test. 60 IN A 10.0.0.1", "b.test. 60 IN A 10.0.0.2"
	for _, tt := range []struct {
		name    string
		srv     answer
		answers map[string]answer
		want    string
		error   string
		asked   int // questions for addresses
	}{
		{
			name: "priorities are tiers, ports and weights their own",
			srv: answer{
				records: []string{srv(20, 7, 8443, "b.test"), srv(10, 5, 443, "a.test"), srv(10, 0, 444, "a.test"), srv(70, 9, 445, "b.test")},
				extra:   []string{a1, a2, "B.test. 60 IN AAAA 2001:db8::2"},
			},
			want: "10.0.0.1:443/0*5 10.0.0.1:444/0*1 10.0.0.2:445/2*9 10.0.0.2:8443/1*7 [2001:db8::2]:445/2*9 [2001:db8::2]:8443/1*7",
		},
		{
			name: "large weights are scaled within their tier",
			srv: answer{
				records: []string{srv(1, 65535, 1, "a.test"), srv(1, 32768, 2, "a.test"), srv(1, 1, 3, "a.test"), srv(2, 256, 4, "a.test")},
				extra:   []string{a1},
			},
			want: "10.0.0.1:1/0*256 10.0.0.1:2/0*128 10.0.0.1:3/0*1 10.0.0.1:4/1*256",
		},
		{
			name: "of doubles the first tier and the larger weight",
			srv: answer{
				records: []string{srv(2, 9, 443, "a.test"), srv(1, 3, 443, "a.test"), srv(1, 4, 443, "b.test")},
				extra:   []string{a1, "b.test. 60 IN A 10.0.0.1"},
			},
			want: "10.0.0.1:443/0*4",
		},
		{
			name:    "targets are asked for",
			srv:     records(srv(1, 1, 443, "a.test"), srv(1, 1, 443, "b.test")),
			answers: map[string]answer{"A a.test.": records(a1), "A b.test.": records("b.test. 60 IN CNAME c.test.", "c.test. 60 IN A 10.0.0.3")},
			want:    "10.0.0.1:443/0*1 10.0.0.3:443/0*1",
			asked:   4,
		},
		{
			name:    "an additional section of some targets is not used",
			srv:     answer{records: []string{srv(1, 1, 443, "a.test"), srv(1, 1, 443, "b.test")}, extra: []string{a1}},
			answers: map[string]answer{"A a.test.": records("a.test. 60 IN A 10.0.0.11"), "A b.test.": records(a2)},
			want:    "10.0.0.2:443/0*1 10.0.0.11:443/0*1",
			asked:   4,
		},
		{
			name:    "a target without addresses is left out",
			srv:     records(srv(1, 1, 443, "a.test"), srv(1, 1, 443, "gone.test")),
			answers: map[string]answer{"A a.test.": records(a1)},
			want:    "10.0.0.1:443/0*1",
			asked:   4,
		},
		{
			name:    "a target that fails is told of",
			srv:     records(srv(1, 1, 443, "a.test"), srv(1, 1, 443, "b.test")),
			answers: map[string]answer{"A a.test.": records(a1), "A b.test.": code(dns.RcodeServerFailure)},
			want:    "10.0.0.1:443/0*1",
			error:   "target b.test: A: ",
			asked:   4,
		},
		{name: "no service", srv: records(srvName + ". 20 IN SRV 0 0 0 ."), error: "there is no such service"},
		{name: "no name", srv: code(dns.RcodeNameError), error: "no such name or no SRV records"},
		{name: "no port", srv: records(srv(1, 1, 0, "a.test")), error: "no such name or no SRV records"},
		{name: "failure", srv: code(dns.RcodeServerFailure), error: "SERVFAIL"},
		{name: "no target", srv: records(srv(1, 1, 443, "gone.test")), error: "no target has an address", asked: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startNameServer(t)
			s.set("SRV "+srvName+".", tt.srv)
			for question, a := range tt.answers {
				s.set(question, a)
			}
			inBubble(t, patient, askSRV(s), func(t *testing.T, r *run) {
				rep := <-r.reports
				if got := ranked(rep.Backends); got != tt.want {
					t.Errorf("got %s\nwant %s", got, tt.want)
				}
				if got := fmt.Sprint(rep.Status.Err); tt.error == "" && rep.Status.Err != nil || !strings.Contains(got, tt.error) {
					t.Errorf("got the error %s, want one with %q", got, tt.error)
				}
				if got := s.count("A ") + s.count("AAAA "); got != tt.asked {
					t.Errorf("got %d questions for addresses, want %d", got, tt.asked)
				}
			})
		})
	}
}

func TestAnSRVTargetThatFailsKeepsItsAddresses(t *testing.T) {
	s := startNameServer(t)
	s.set("SRV "+srvName+".", records(srv(1, 1, 443, "a.test"), srv(1, 1, 443, "b.test")))
	s.set("A a.test.", records("a.test. 30 IN A 10.0.0.1"))
	s.set("A b.test.", records("b.test. 10 IN A 10.0.0.2"))
	inBubble(t, patient, askSRV(s), func(_ *testing.T, r *run) {
		r.next("10.0.0.1:443 10.0.0.2:443", "")
		s.set("A a.test.", records("a.test. 30 IN A 10.0.0.9"))
		s.set("A b.test.", code(dns.RcodeServerFailure))
		r.next("10.0.0.2:443 10.0.0.9:443", "target b.test")
		r.at(10 * time.Second)
		// The record of a target goes, and with it what was kept of it.
		s.set("SRV "+srvName+".", records(srv(1, 1, 443, "a.test")))
		r.next("10.0.0.9:443", "")
		r.at(11 * time.Second)
	})
}

func TestManySRVRecordsComeOverTCP(t *testing.T) {
	s := startNameServer(t)
	var all answer
	for i := range 100 {
		target := fmt.Sprintf("a-target-with-a-long-name-%d.test", i)
		all.records = append(all.records, srv(1, 1, 443, target))
		all.extra = append(all.extra, fmt.Sprintf("%s. 60 IN A 10.0.0.%d", target, i+1))
	}
	s.set("SRV "+srvName+".", all)
	inBubble(t, patient, askSRV(s), func(t *testing.T, r *run) {
		if rep := <-r.reports; len(rep.Backends) != 100 || rep.Status.Err != nil {
			t.Errorf("got %d backends, error %v, want 100 and none", len(rep.Backends), rep.Status.Err)
		}
		if s.count("SRV "+srvName+". tcp") != 1 || s.count("A ") != 0 {
			t.Errorf("got the questions %v, want one over TCP and none for targets", s.asked)
		}
	})
}
