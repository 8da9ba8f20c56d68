package discover

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/snicketlb/snicket/pkg/config"
)

// MaxBackends is how many backends a source has at most. A DNS answer with more is
// cut to its first after sorting, a file with more is refused.
const MaxBackends = 10_000

// Backend is one backend as a source tells of it. It is comparable.
type Backend struct {
	// Name tells which backend is the same one from one set to the next, and is
	// unique in a set. From DNS it is the address, "10.0.0.5:443"; in a file it
	// may be chosen.
	Name string
	// Address is where to dial. From DNS it is of [config.AddressIP]; a file may
	// name any kind, and a host name in it is the consumer's to resolve.
	Address config.Address
	// Weight is from 1 to [config.MaxWeight].
	Weight int
	// Tier is 0 for the backends to use first, 1 for the next (backup in a file).
	Tier int
	// MaxConnections is 0 for no limit.
	MaxConnections int
}

// Settings say what a source asks. Exactly one of DNS, SRV and File is set.
type Settings struct {
	// DNS is a host name and Port the port of its addresses. With a dot at its end
	// the name is taken as it is, without search domains.
	DNS  string
	Port uint16
	// SRV is the whole name of SRV records, "_https._tcp.app.internal".
	SRV string
	// Resolvers are the servers to ask, in this order, for DNS and SRV; none: those
	// of /etc/resolv.conf.
	Resolvers []netip.AddrPort
	// File is the path of a file; a relative one starts at the working directory.
	File string
}

// Equal reports whether a source of s does what one of o does.
func (s Settings) Equal(o Settings) bool {
	return s.DNS == o.DNS && s.Port == o.Port && s.SRV == o.SRV && s.File == o.File && slices.Equal(s.Resolvers, o.Resolvers)
}

// SameQuestion reports whether s and o ask for the same thing, perhaps of other servers.
func (s Settings) SameQuestion(o Settings) bool {
	o.Resolvers = s.Resolvers
	return s.Equal(o)
}

// String names the source in the words of the configuration: "dns app.internal:443",
// "srv _https._tcp.app.internal", "file /run/backends.json".
func (s Settings) String() string {
	switch {
	case s.File != "":
		return "file " + s.File
	case s.SRV != "":
		return "srv " + s.SRV
	}
	return "dns " + config.Address{Kind: config.AddressName, Host: s.DNS, Port: s.Port}.String()
}

// Status is the condition of a source at one instant.
type Status struct {
	// Backends is the size of the set in force.
	Backends int
	// Err is why the last look was not wholly good; nil if it was, and before the
	// first. With one of several questions failed the set may be fresh in part.
	Err error
	// Failures counts the looks since the last that was wholly good.
	Failures int
	// Note tells of what works less well than it should, such as a file that cannot
	// be watched; "" for nothing.
	Note string
	// Checked is when the last look ended, Good when the last that was wholly good
	// did; zero if none has.
	Checked, Good time.Time
	// TTL is how long the last good answer said it would hold, unbounded; 0 for
	// files and names in /etc/hosts, which do not say.
	TTL time.Duration
	// Next is when the source looks again, unless an event comes before.
	Next time.Time
	// Looks and Failed count since the start.
	Looks, Failed uint64
}

// Report is what a source calls back with.
type Report struct {
	// Settings are those of the source.
	Settings Settings
	// Backends is the set in force: full, sorted by address and name, without
	// doubles. It is shared and must not be changed.
	Backends []Backend
	// Changed says that the set is another than that of the report before. It is
	// set in a first report.
	Changed bool
	Status  Status
}

// found is what one look has seen.
type found struct {
	backends []Backend     // in any order, perhaps with doubles
	ttl      time.Duration // 0: the source does not say
	wait     time.Duration // until the next look at the latest; 0: as after a failure
	err      error         // why part of the backends are from an earlier look; beside backends
	note     string
}

// A looker sees what its source says now. Its methods are called by one goroutine.
type looker interface {
	// look returns backends, or an error when there are none to be had. It returns
	// soon after ctx is done.
	look(ctx context.Context) (found, error)
	// events gets a value when it is worth looking before the time has come; it
	// may be nil.
	events() <-chan struct{}
	close()
}

// Source looks at one source of backends, over and over.
type Source struct {
	settings Settings
	looker   looker

	mu     sync.Mutex // guards the fields below
	status Status
	set    []Backend
}

// New returns the source that s describes; [Source.Run] sets it to work.
func New(s Settings) *Source {
	return newSource(s, paths{hosts: "/etc/hosts", resolvConf: "/etc/resolv.conf"})
}

// paths are the files of the system that name resolution goes by.
type paths struct{ hosts, resolvConf string }

func newSource(s Settings, p paths) *Source {
	src := &Source{settings: s}
	switch {
	case s.File != "":
		src.looker = newFileLooker(s.File)
	case s.SRV != "":
		src.looker = newSRVLooker(s.SRV, resolver{servers: s.Resolvers, paths: p})
	default:
		src.looker = newHostLooker(s.DNS, s.Port, resolver{servers: s.Resolvers, paths: p})
	}
	return src
}

// Settings returns what the source was made of.
func (s *Source) Settings() Settings { return s.settings }

// Snapshot returns the set in force and the status of now, which is newer than that of
// the last report. Any goroutine may call it.
func (s *Source) Snapshot() ([]Backend, Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set, s.status
}

// Run looks until ctx is done, and returns when it has stopped. It calls report from
// its own goroutine, when the first look has ended and from then on when the set, the
// words of its error or its note have changed; the source waits for report to return.
// It is called once.
func (s *Source) Run(ctx context.Context, report func(Report)) {
	defer s.looker.close()
	for first := true; ; first = false {
		f, err := s.looker.look(ctx)
		if ctx.Err() != nil {
			return
		}
		r, news := s.learn(f, err, time.Now())
		r.Changed = r.Changed || first
		if first || news {
			report(r)
		}
		timer := time.NewTimer(time.Until(r.Status.Next))
		select {
		case <-timer.C:
		case <-s.looker.events():
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// learn takes in what a look has seen, and says whether that is worth a report.
func (s *Source) learn(f found, err error, now time.Time) (r Report, news bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.status
	st := &s.status
	st.Checked = now
	st.Looks++
	if err == nil {
		err = f.err
		set := arrange(f.backends)
		r.Changed = !slices.Equal(set, s.set)
		if r.Changed {
			s.set = set
		}
	}
	st.Err, st.Note, st.Backends = err, f.note, len(s.set)
	if err == nil {
		st.Failures, st.Good, st.TTL = 0, now, f.ttl
		st.Next = now.Add(f.wait)
	} else {
		st.Failures++
		st.Failed++
		wait := retryAfter(st.Failures)
		if f.wait > 0 { // what was good of it is not kept longer for what was not
			wait = min(wait, f.wait)
		}
		st.Next = now.Add(wait)
	}
	r.Settings, r.Backends, r.Status = s.settings, s.set, *st
	return r, r.Changed || errorText(old.Err) != errorText(err) || old.Note != st.Note
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// arrange returns the set of backends: sorted, each name once. Of doubles the one of
// the lowest tier stays, and among those the one of the largest weight.
func arrange(backends []Backend) []Backend {
	set := slices.Clone(backends)
	slices.SortFunc(set, func(a, b Backend) int {
		return cmp.Or(
			cmp.Compare(a.Address.Kind, b.Address.Kind),
			a.Address.AddrPort.Compare(b.Address.AddrPort),
			strings.Compare(a.Name, b.Name),
			cmp.Compare(a.Tier, b.Tier),
			cmp.Compare(b.Weight, a.Weight),
		)
	})
	set = slices.CompactFunc(set, func(a, b Backend) bool { return a.Name == b.Name })
	return set[:min(len(set), MaxBackends)]
}
