package registry

import (
	"context"
	"iter"

	"github.com/hashicorp/go-memdb"

	"github.com/snicketlb/snicket/pkg/config"
)

// View is all tables at one instant. It is immutable, cheap and safe for concurrent
// use; what its methods return is shared and must not be changed.
type View struct {
	txn *memdb.Txn
}

// View returns the newest view.
func (r *Registry) View() *View { return &View{txn: r.db.Txn(false)} }

// Wait returns nil as soon as any table has changed since the view was taken, also
// when that was before the call, or the error of ctx.
func (v *View) Wait(ctx context.Context) error {
	changed := memdb.NewWatchSet()
	for _, table := range []string{listenerTable, routeTable, poolTable, backendTable, statusTable, metaTable} {
		changed.Add(must(v.txn.Get(table, "id")).WatchCh())
	}
	return changed.WatchCtx(ctx)
}

// Meta tells of the configuration in force; its Generation is 0 before the first.
func (v *View) Meta() Meta { return meta(v.txn) }

// Listeners returns all listeners by name. Here and below, positions are of the file in
// which a row was new.
func (v *View) Listeners() []*config.Listener { return rows[config.Listener](v.txn, listenerTable) }

// Routes yields all routes by name. There may be very many.
func (v *View) Routes() iter.Seq[*config.Route] { return each[config.Route](v.txn, routeTable) }

// Pools returns all pools by name. Their Backends are as written;
// [View.Backends] are the resolved ones.
func (v *View) Pools() []*config.Pool { return rows[config.Pool](v.txn, poolTable) }

// Members are the rows of one pool. Backends and Statuses are by ID; those of which
// nothing is observed have no status.
type Members struct {
	Pool     *config.Pool
	Backends []*Backend
	Statuses []*Status
}

// Members yields all pools by name with what they have, in one way through the tables:
// of very many pools, asking for each one's takes ten times as long. The slices are parts
// of those of all pools: who keeps one keeps all.
func (v *View) Members() iter.Seq[Members] {
	return func(yield func(Members) bool) {
		backends, statuses := rows[Backend](v.txn, backendTable), rows[Status](v.txn, statusTable)
		for pool := range each[config.Pool](v.txn, poolTable) {
			m := Members{Pool: pool}
			m.Backends, backends = of(pool.Name, backends, func(b *Backend) string { return b.Pool })
			m.Statuses, statuses = of(pool.Name, statuses, func(s *Status) string { return s.Pool })
			if !yield(m) {
				return
			}
		}
	}
}

// of splits rows, which are sorted by their pools, into those of pool and those behind them.
func of[T any](pool string, rows []*T, poolOf func(*T) string) (own, rest []*T) {
	for len(rows) > 0 && poolOf(rows[0]) < pool {
		rows = rows[1:]
	}
	n := 0
	for n < len(rows) && poolOf(rows[n]) == pool {
		n++
	}
	return rows[:n:n], rows[n:]
}

// Backends returns the backends of a pool by ID.
func (v *View) Backends(pool string) []*Backend {
	return rows[Backend](v.txn, backendTable, pool, "") // every ID of exactly this pool
}

// Status returns what is observed of a backend; the zero Status, whose State is
// Unknown, if nothing is.
func (v *View) Status(pool, id string) Status {
	if row := must(v.txn.First(statusTable, "id", pool, id)); row != nil {
		return *row.(*Status)
	}
	return Status{Pool: pool, ID: id}
}

// AllStatuses returns what is observed of backends, by pool and ID; those of which nothing
// is are left out.
func (v *View) AllStatuses() []*Status { return rows[Status](v.txn, statusTable) }
