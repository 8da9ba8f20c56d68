package registry

import (
	"strings"
	"time"

	"github.com/hashicorp/go-memdb"

	"github.com/snicketlb/snicket/health"
	"github.com/snicketlb/snicket/pkg/config"
)

// Status is what probes and sessions have shown of one backend, and what an operator
// wants of it. It is comparable.
// Each part has one writer, and none touches another's.
type Status struct {
	Pool, ID string
	Probed
	Ejected Ejected
	Wished  Wished
}

// Probed is what the probes of a backend have shown.
type Probed struct {
	State health.State
	Since time.Time
	Why   string // why it is down
	ALPN  string // what it chose in its last probe
	// Agent is what its agent wishes.
	Agent health.AgentReport
	// Certificate is what it showed in its last probe, in the form that
	// [PackCertificate] gives it; zero: none.
	Certificate Certificate
}

// Ejected is what the failures of sessions led to; zero: the backend is not ejected.
type Ejected struct {
	Until  time.Time
	Reason string
}

// Wish is what an operator wants of a backend, whatever probes say.
type Wish string

// The wishes.
const (
	NoWish    Wish = ""
	WishDrain Wish = "drain"
	WishDown  Wish = "down"
)

// Wished is what an operator wants of a backend. It lasts as long as the backend is
// declared, over any number of declarations, and for an hour more.
type Wished struct {
	State Wish
	Since time.Time // of State; zero: no wish
	By    string
	// Weighs says that Weight replaces the declared one.
	Weighs      bool
	Weight      int
	WeightSince time.Time
	WeightBy    string
}

// On reports whether the backend is ejected.
func (e Ejected) On() bool { return !e.Until.IsZero() }

// Certificate is a health.Certificate that can be compared.
type Certificate struct {
	NotBefore, NotAfter time.Time
	Names               string // separated by spaces
	Issuer, Fingerprint string
}

// PackCertificate is c in the form of a row.
func PackCertificate(c health.Certificate) Certificate {
	return Certificate{c.NotBefore, c.NotAfter, strings.Join(c.Names, " "), c.Issuer, c.Fingerprint}
}

// Unpack is the certificate of a row, and whether there is one.
func (c Certificate) Unpack() (health.Certificate, bool) {
	return health.Certificate{
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, Names: strings.Fields(c.Names),
		Issuer: c.Issuer, Fingerprint: c.Fingerprint,
	}, c.Fingerprint != ""
}

// Observe notes what probes have shown of a backend, unless it is not, or no longer,
// declared, or its pool is not probed.
func (r *Registry) Observe(pool, id string, p Probed) {
	r.note(pool, id, func(s *Status) { s.Probed = p })
}

// Eject notes that a backend is ejected, or no longer, unless it is not, or no longer,
// declared, or its pool ejects none.
func (r *Registry) Eject(pool, id string, e Ejected) {
	r.note(pool, id, func(s *Status) { s.Ejected = e })
}

// Wish has change write what an operator wants of a backend, and reports whether there
// is such a backend.
func (r *Registry) Wish(pool, id string, change func(*Wished)) bool {
	txn := r.db.Txn(true)
	defer txn.Commit()
	if must(txn.First(backendTable, "id", pool, id)) == nil {
		return false
	}
	noteIn(txn, pool, id, func(s *Status) { change(&s.Wished) })
	return true
}

// note has change write a part of a backend's status.
func (r *Registry) note(pool, id string, change func(*Status)) {
	txn := r.db.Txn(true)
	defer txn.Commit()
	noteIn(txn, pool, id, change)
}

func noteIn(txn *memdb.Txn, pool, id string, change func(*Status)) {
	s := Status{Pool: pool, ID: id}
	if row := must(txn.First(statusTable, "id", pool, id)); row != nil {
		s = *row.(*Status)
	}
	change(&s)
	setStatus(txn, s)
}

// setStatus writes the parts of s that somebody keeps up to date: of a backend that is
// not declared none, of one that is not probed not the probes' part.
func setStatus(txn *memdb.Txn, s Status) {
	row := must(txn.First(poolTable, "id", s.Pool))
	if row == nil || must(txn.First(backendTable, "id", s.Pool, s.ID)) == nil {
		s.Probed, s.Ejected, s.Wished = Probed{}, Ejected{}, Wished{}
	} else {
		pool := row.(*config.Pool)
		if !pool.Health.Enabled {
			s.Probed = Probed{}
		}
		if pool.Eject == nil {
			s.Ejected = Ejected{}
		}
	}
	old := must(txn.First(statusTable, "id", s.Pool, s.ID))
	switch {
	case s == Status{Pool: s.Pool, ID: s.ID}:
		if old != nil {
			remove(txn, statusTable, old)
		}
	case old == nil || *old.(*Status) != s:
		insert(txn, statusTable, &s)
	}
}
