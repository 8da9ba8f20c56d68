package discover

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxAliases bounds a chain of CNAMEs, which may be a ring.
const maxAliases = 16

// errTimeout is a question that nobody answered in time.
var errTimeout = errors.New("no answer in time")

// resolver is how names are resolved, apart from what resolv.conf says at the moment.
type resolver struct {
	servers []netip.AddrPort // empty: those of resolv.conf
	paths   paths
}

// session is what one look goes by: resolv.conf does not change in the middle of it.
type session struct {
	servers  []string // host:port, in order
	search   []string
	ndots    int
	timeout  time.Duration // of one attempt
	attempts int           // at each server
	rotate   bool
}

// session reads resolv.conf. The note says why its defaults serve in its place, if
// they do; a system without the file is none to speak of.
func (r resolver) session() (s *session, note string) {
	text, err := os.ReadFile(r.paths.resolvConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		note = fmt.Sprintf("resolv.conf is not read: %v", err)
	}
	s = parseResolvConf(text)
	if len(r.servers) > 0 {
		s.servers = nil
		for _, server := range r.servers {
			s.servers = append(s.servers, server.String())
		}
	}
	return s, note
}

// parseResolvConf reads what resolv.conf(5) says, or its defaults.
func parseResolvConf(text []byte) *session {
	c, err := dns.ClientConfigFromReader(bytes.NewReader(text))
	if err != nil { // a line beyond bufio's limit: no resolv.conf
		c, _ = dns.ClientConfigFromReader(strings.NewReader(""))
	}
	s := &session{
		ndots:    c.Ndots,
		timeout:  time.Duration(min(c.Timeout, 30)) * time.Second, // the bounds of resolv.conf(5)
		attempts: min(c.Attempts, 5),
		rotate:   rotates(text),
	}
	for _, server := range c.Servers {
		s.servers = append(s.servers, net.JoinHostPort(server, c.Port))
	}
	if len(s.servers) == 0 {
		s.servers = []string{"127.0.0.1:53", "[::1]:53"}
	}
	for _, domain := range c.Search {
		if isName(domain) && domain != "." {
			s.search = append(s.search, dns.Fqdn(domain))
		}
	}
	return s
}

// isName reports whether name fits into a question.
func isName(name string) bool {
	_, ok := dns.IsDomainName(name)
	return ok
}

func rotates(text []byte) bool {
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 0 && f[0] == "options" && slices.Contains(f, "rotate") {
			return true
		}
	}
	return false
}

// candidates are the full names that name may stand for, in the order to try.
func (s *session) candidates(name string) []string {
	if dns.IsFqdn(name) {
		return []string{name}
	}
	var out []string
	for _, domain := range s.search {
		if full := dns.Fqdn(name + "." + domain); isName(full) {
			out = append(out, full)
		}
	}
	own := dns.Fqdn(name)
	if strings.Count(name, ".") >= s.ndots {
		return append([]string{own}, out...)
	}
	return append(out, own)
}

// reply is what the servers said of a name and type.
type reply struct {
	records []dns.RR // of that type, at the end of the aliases; none: there are none
	extra   []dns.RR // the additional section
	ttl     time.Duration
}

// ask asks for records of one type and follows aliases. That there are none, or no
// such name, is an answer and not an error.
func (s *session) ask(ctx context.Context, name string, kind uint16) (reply, error) {
	out := reply{ttl: seconds(1<<31 - 1)}
	asked := name
	for range maxAliases {
		m, err := s.exchange(ctx, asked, kind)
		if err != nil {
			return reply{}, err
		}
		end, aliases, whole := chase(m, asked, kind, &out)
		if len(out.records) > 0 || aliases == 0 || m.Rcode == dns.RcodeNameError || whole {
			out.extra = m.Extra
			return out, nil
		}
		asked = end // the server does not know where the alias leads: ask for that
	}
	return reply{}, fmt.Errorf("more than %d aliases in a row", maxAliases)
}

// chase follows the aliases in m's answer section from name on, and puts what is at
// their end into out. It returns the last name, how many aliases led there, and whether
// m tells by itself that there is nothing at it: it has an authority's word on the last
// name (RFC 2308 §2).
func chase(m *dns.Msg, name string, kind uint16, out *reply) (end string, aliases int, whole bool) {
	for ; aliases < maxAliases; aliases++ {
		next := ""
		for _, rr := range m.Answer {
			h := rr.Header()
			if !strings.EqualFold(h.Name, name) || h.Class != dns.ClassINET {
				continue // not asked for
			}
			if h.Rrtype == kind {
				out.records = append(out.records, rr)
				out.ttl = min(out.ttl, seconds(h.Ttl))
			} else if alias, ok := rr.(*dns.CNAME); ok && next == "" {
				next = alias.Target
				out.ttl = min(out.ttl, seconds(h.Ttl))
			}
		}
		if len(out.records) > 0 || next == "" {
			break
		}
		name = next
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, name) {
			whole = true
		}
	}
	return name, aliases, whole
}

// seconds is a TTL; one with the highest bit set is 0 (RFC 2181 §8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// exchange asks the servers in turn until one knows, each attempts times.
func (s *session) exchange(ctx context.Context, name string, kind uint16) (*dns.Msg, error) {
	start := 0
	if s.rotate {
		start = rand.IntN(len(s.servers))
	}
	var last error
	for range s.attempts {
		for i := range s.servers {
			server := s.servers[(start+i)%len(s.servers)]
			m, err := exchangeWith(ctx, server, name, kind, s.timeout)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err == nil {
				return m, nil
			}
			last = fmt.Errorf("%s: %w", server, err)
		}
	}
	return nil, last
}

// lookupHosts returns the addresses of a name in a hosts file (hosts(5)), nil if it has
// none or cannot be read.
func lookupHosts(path, name string) []netip.Addr {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	name = strings.TrimSuffix(name, ".")
	var out []netip.Addr
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		same := func(f string) bool { return strings.EqualFold(strings.TrimSuffix(f, "."), name) }
		if a, err := netip.ParseAddr(fields[0]); err == nil && slices.ContainsFunc(fields[1:], same) {
			out = append(out, a)
		}
	}
	return out
}
