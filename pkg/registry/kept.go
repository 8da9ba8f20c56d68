package registry

import (
	"time"

	"github.com/hashicorp/go-memdb"
)

const (
	// keptFor is how long a wish outlives its backend: long enough for a name that
	// resolves to nothing for a while and for a reload that is taken back, too short for
	// the address to have become another machine's.
	keptFor = time.Hour
	// mostKept bounds the wishes of backends that are no more; the one that left first
	// goes first.
	mostKept = 1000
)

// kept is what an operator wants of a backend that is no longer declared.
type kept struct {
	Pool, ID string
	Wished
	Left time.Time
}

// Keep notes what an operator wanted of a backend that is not declared, and may be again.
func (r *Registry) Keep(pool, id string, w Wished, at time.Time) {
	txn := r.db.Txn(true)
	defer txn.Commit()
	insert(txn, keptTable, &kept{pool, id, w, at})
	settleKept(txn, at)
}

// Kept returns what operators want of backends that are no longer declared: all else of
// the rows is zero.
func (v *View) Kept() []*Status {
	all := rows[kept](v.txn, keptTable)
	out := make([]*Status, len(all))
	for i, k := range all {
		out[i] = &Status{Pool: k.Pool, ID: k.ID, Wished: k.Wished}
	}
	return out
}

// keepLeft notes the wishes of backends that are no longer declared.
func keepLeft(txn *memdb.Txn, at time.Time) {
	for _, s := range rows[Status](txn, statusTable) {
		if s.Wished != (Wished{}) && must(txn.First(backendTable, "id", s.Pool, s.ID)) == nil {
			insert(txn, keptTable, &kept{s.Pool, s.ID, s.Wished, at})
		}
	}
}

// settleKept gives wishes back to those backends that are declared again, and forgets what
// is too old or too much.
func settleKept(txn *memdb.Txn, at time.Time) {
	var left int
	var first *kept
	for _, k := range rows[kept](txn, keptTable) {
		switch {
		case must(txn.First(backendTable, "id", k.Pool, k.ID)) != nil:
			noteIn(txn, k.Pool, k.ID, func(s *Status) { s.Wished = k.Wished })
			remove(txn, keptTable, k)
			continue
		case at.Sub(k.Left) > keptFor:
			remove(txn, keptTable, k)
			continue
		}
		if left++; first == nil || k.Left.Before(first.Left) {
			first = k
		}
	}
	for ; left > mostKept; left-- {
		remove(txn, keptTable, first)
		first = nil
		for _, k := range rows[kept](txn, keptTable) {
			if first == nil || k.Left.Before(first.Left) {
				first = k
			}
		}
	}
}
