// Package registry keeps what is declared, by the configuration and by name
// resolution, and what is observed, by probes, in one in-memory database.
//
// Start at [New]. [Registry.Declare] puts a configuration in by one transaction,
// [Registry.Observe] and [Registry.Eject] what became of a backend; [Registry.View]
// is all tables at one instant, and [View.Wait] returns once any of them has changed
// since. A reader that acts on a view and waits for the next one misses nothing and
// needs no queue: however many changes there were, the newest view has them all.
//
// Rows are immutable and hold no counters, and one that a write would leave the
// same is not written, so it wakes nobody. The registry is never on the way of a
// connection: a look-up here costs 30 times what the data plane's own maps do.
package registry

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/hashicorp/go-memdb"

	"github.com/snicketlb/snicket/pkg/config"
)

// Backend is one address of a pool, after name resolution. It is comparable.
type Backend struct {
	Pool string
	ID   string // unique in the pool; decides which backend is the same one over time
	// Address is never a host name unless Unresolved says why.
	Address        config.Address
	Weight         int
	Tier           int // used only while no lower one has a ready backend; 0 is the first
	MaxConnections int // 0: no limit
	// Unresolved is why a host name has no address; empty for all other backends.
	Unresolved string
}

// Meta tells of the configuration in force.
type Meta struct {
	Generation uint64 // 1 is the one of the start
	At         time.Time
}

// The tables. Each has one index.
const (
	listenerTable = "listener"
	routeTable    = "route"
	poolTable     = "pool"
	backendTable  = "backend"
	statusTable   = "status"
	keptTable     = "kept"
	metaTable     = "meta"
)

// Registry is the database. Its methods may be called from any goroutine; writers
// wait for one another, readers for nobody.
type Registry struct {
	db *memdb.MemDB
}

// New returns an empty registry.
func New() *Registry {
	byName := func() memdb.Indexer { return &memdb.StringFieldIndex{Field: "Name"} }
	byBackend := func() memdb.Indexer {
		return &memdb.CompoundIndex{Indexes: []memdb.Indexer{
			&memdb.StringFieldIndex{Field: "Pool"}, &memdb.StringFieldIndex{Field: "ID"},
		}}
	}
	schema := &memdb.DBSchema{Tables: map[string]*memdb.TableSchema{}}
	for name, indexer := range map[string]memdb.Indexer{
		listenerTable: byName(),
		routeTable:    byName(),
		poolTable:     byName(),
		backendTable:  byBackend(),
		statusTable:   byBackend(),
		keptTable:     byBackend(),
		metaTable:     &memdb.ConditionalIndex{Conditional: func(any) (bool, error) { return true, nil }},
	} {
		schema.Tables[name] = &memdb.TableSchema{
			Name:    name,
			Indexes: map[string]*memdb.IndexSchema{"id": {Name: "id", Unique: true, Indexer: indexer}},
		}
	}
	return &Registry{db: must(memdb.NewMemDB(schema))}
}

// Difference names the rows of one table that a write added, changed and removed,
// sorted.
type Difference struct{ Added, Changed, Removed []string }

// Empty reports whether nothing was written.
func (d Difference) Empty() bool { return len(d.Added)+len(d.Changed)+len(d.Removed) == 0 }

// Changes is what a declaration changed. Backends are named POOL/ID; what changed about
// them alone is no change of their pool.
type Changes struct {
	Generation                         uint64
	Listeners, Routes, Pools, Backends Difference
}

// Declare replaces what is declared by c and its resolved backends, and forgets what
// was observed of backends that are no more, or that nobody observes any longer, all
// in one transaction. What an operator wants of a backend that is no more is kept for a
// while, and holds again if it comes back by then. Where a configuration stands in its file
// is not kept: moving lines changes nothing.
func (r *Registry) Declare(c *config.Config, backends []Backend, at time.Time) Changes {
	txn := r.db.Txn(true)
	defer txn.Commit()
	return declare(txn, c, backends, at)
}

// Compare is what Declare would change.
func (r *Registry) Compare(c *config.Config, backends []Backend) Changes {
	txn := r.db.Txn(true)
	defer txn.Abort()
	return declare(txn, c, backends, time.Time{})
}

func declare(txn *memdb.Txn, c *config.Config, backends []Backend, at time.Time) Changes {
	var ch Changes
	before := len(rows[config.Listener](txn, listenerTable))
	// A route on all listeners, as is the default, stays the same when there is one more.
	sameRoute := func(was, is *config.Route) bool {
		if len(was.Listeners) != before || len(is.Listeners) != len(c.Listeners) {
			return reflect.DeepEqual(was, is)
		}
		moved := *was
		moved.Listeners = is.Listeners
		return reflect.DeepEqual(&moved, is)
	}
	ch.Listeners = replace(txn, listenerTable, pointers(c.Listeners), placelessListener, func(l *config.Listener) string { return l.Name }, same)
	ch.Routes = replace(txn, routeTable, c.Routes, placelessRoute, func(r *config.Route) string { return r.Name }, sameRoute)
	ch.Pools = replace(txn, poolTable, pointers(c.Pools), placelessPool, func(p *config.Pool) string { return p.Name }, samePool)
	ch.Backends = setBackends(txn, backends, at)
	ch.Generation = meta(txn).Generation + 1
	insert(txn, metaTable, &Meta{Generation: ch.Generation, At: at})
	return ch
}

// SetBackends replaces the backends alone, after names have resolved anew at that time.
func (r *Registry) SetBackends(backends []Backend, at time.Time) Difference {
	txn := r.db.Txn(true)
	defer txn.Commit()
	return setBackends(txn, backends, at)
}

func setBackends(txn *memdb.Txn, backends []Backend, at time.Time) Difference {
	d := replace(txn, backendTable, pointers(backends), func(*Backend) {}, func(b *Backend) string { return b.Pool + "/" + b.ID }, same)
	keepLeft(txn, at)
	for _, s := range rows[Status](txn, statusTable) {
		setStatus(txn, *s)
	}
	settleKept(txn, at)
	return d
}

// same is equality of rows where nothing is to be overlooked.
func same[T any](was, is *T) bool { return reflect.DeepEqual(was, is) }

// samePool is equality of pools but for their backends, whose rows tell of them: here they
// are as written, where one host name may be many.
func samePool(was, is *config.Pool) bool {
	moved := *was
	moved.Backends = is.Backends
	return reflect.DeepEqual(&moved, is)
}

// replace makes list the rows of a table, without what lose takes from them; name is
// unique in it. What same takes for equal is no change to tell of, and written all the
// same where it is one. Of very many rows few change: only those are copied.
func replace[T any](txn *memdb.Txn, table string, list []*T, lose func(*T), name func(*T) string, same func(was, is *T) bool) Difference {
	var d Difference
	old := make(map[string]*T, len(list))
	for _, row := range rows[T](txn, table) {
		old[name(row)] = row
	}
	is := new(T)
	for _, row := range list {
		*is = *row
		lose(is)
		name := name(is)
		was, ok := old[name]
		delete(old, name)
		switch {
		case !ok:
			d.Added = append(d.Added, name)
		case reflect.DeepEqual(was, is):
			continue
		case !same(was, is):
			d.Changed = append(d.Changed, name)
		}
		insert(txn, table, is)
		is = new(T) // the other is the table's
	}
	for gone, row := range old {
		d.Removed = append(d.Removed, gone)
		remove(txn, table, row)
	}
	slices.Sort(d.Added)
	slices.Sort(d.Changed)
	slices.Sort(d.Removed)
	return d
}

// pointers are those to the elements of list.
func pointers[T any](list []T) []*T {
	out := make([]*T, len(list))
	for i := range list {
		out[i] = &list[i]
	}
	return out
}

// rows returns all rows of a table, in the order of its index, or with a prefix those
// whose index begins with it.
func rows[T any](txn *memdb.Txn, table string, prefix ...any) []*T {
	index := "id"
	if len(prefix) > 0 {
		index = "id_prefix"
	}
	it := must(txn.Get(table, index, prefix...))
	var out []*T
	for row := it.Next(); row != nil; row = it.Next() {
		out = append(out, row.(*T))
	}
	return out
}

func meta(txn *memdb.Txn) Meta {
	if row := must(txn.First(metaTable, "id", true)); row != nil {
		return *row.(*Meta)
	}
	return Meta{}
}

func insert(txn *memdb.Txn, table string, row any) { must(0, txn.Insert(table, row)) }

func remove(txn *memdb.Txn, table string, row any) { must(0, txn.Delete(table, row)) }

// must panics on what the database refuses: with tables and types fixed here, that
// is a mistake of this package alone.
func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Sprintf("registry: %v", err))
	}
	return v
}
