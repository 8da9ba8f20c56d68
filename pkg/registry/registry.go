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
	"iter"
	"reflect"
	"slices"
	"time"

	"github.com/hashicorp/go-memdb"

	"github.com/snicketlb/snicket/pkg/config"

	"github.com/snicketlb/snicket/pkg/pace"
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
	Routes     int // how many there are
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
// while, and holds again if it comes back by then. The routes of c are rows from then on, and
// nobody changes what c or backends hold. Where they stand in their file is not compared: moving
// lines changes nothing.
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
	// A route on all listeners, as is the default, stays the same when there is one more. Of
	// two that are on the same ones it is known already that they differ.
	sameRoute := func(was, is *config.Route) bool {
		if len(was.Listeners) != before || len(is.Listeners) != len(c.Listeners) || slices.Equal(was.Listeners, is.Listeners) {
			return false
		}
		moved := *was
		moved.Listeners = is.Listeners
		return reflect.DeepEqual(&moved, is)
	}
	ch.Listeners = replace(txn, rules[config.Listener]{
		table: listenerTable, name: func(l *config.Listener) string { return l.Name }, lose: placelessListener, same: same[config.Listener],
	}, pointers(c.Listeners))
	ch.Routes = replace(txn, rules[config.Route]{
		table: routeTable, name: func(r *config.Route) string { return r.Name }, apart: true, known: (*config.Route).Same, lose: placelessRoute, same: sameRoute,
	}, c.Routes)
	ch.Pools = replace(txn, rules[config.Pool]{
		table: poolTable, name: func(p *config.Pool) string { return p.Name }, lose: placelessPool, same: samePool,
	}, pointers(c.Pools))
	ch.Backends = setBackends(txn, backends, at)
	ch.Generation = meta(txn).Generation + 1
	insert(txn, metaTable, &Meta{Generation: ch.Generation, At: at, Routes: len(c.Routes)})
	return ch
}

// SetBackends replaces the backends alone, after names have resolved anew at that time.
func (r *Registry) SetBackends(backends []Backend, at time.Time) Difference {
	txn := r.db.Txn(true)
	defer txn.Commit()
	return setBackends(txn, backends, at)
}

func setBackends(txn *memdb.Txn, backends []Backend, at time.Time) Difference {
	d := replace(txn, rules[Backend]{
		table: backendTable, name: func(b *Backend) string { return b.Pool + "/" + b.ID }, lose: func(*Backend) {}, same: same[Backend],
	}, pointers(backends))
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

// rules are how a table is replaced.
type rules[T any] struct {
	table string
	name  func(*T) string // unique
	// apart says that the rows declared are no part of a list, which one row would keep
	// for as long as it stands: then it is copied.
	apart bool
	// known tells, of a row and what it is to be, that it is that already; nil: that is
	// never known beforehand.
	known func(was, is *T) bool
	// lose takes from a copy of a row what is not compared.
	lose func(*T)
	// same tells what is no change to speak of; it is written all the same where it is one.
	same func(was, is *T) bool
}

// replace makes list the rows of a table: those that have not changed stay as they were.
func replace[T any](txn *memdb.Txn, o rules[T], list []*T) Difference {
	var d Difference
	old := make(map[string]*T, len(list))
	for row := range each[T](txn, o.table) {
		old[o.name(row)] = row
	}
	a, b := new(T), new(T) // without what is not compared
	for _, row := range pace.All(list) {
		name := o.name(row)
		was, ok := old[name]
		delete(old, name)
		if ok {
			if o.known != nil && o.known(was, row) {
				continue
			}
			*a, *b = *was, *row
			o.lose(a)
			o.lose(b)
			if reflect.DeepEqual(a, b) {
				continue
			}
			if !o.same(a, b) {
				d.Changed = append(d.Changed, name)
			}
		} else {
			d.Added = append(d.Added, name)
		}
		if !o.apart {
			row = new(*row)
		}
		insert(txn, o.table, row)
	}
	for gone, row := range old {
		d.Removed = append(d.Removed, gone)
		remove(txn, o.table, row)
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
	return slices.Collect(each[T](txn, table, prefix...))
}

// each yields what rows returns.
func each[T any](txn *memdb.Txn, table string, prefix ...any) iter.Seq[*T] {
	index := "id"
	if len(prefix) > 0 {
		index = "id_prefix"
	}
	return func(yield func(*T) bool) {
		var walk pace.Walk
		it := must(txn.Get(table, index, prefix...))
		for row := it.Next(); row != nil && yield(row.(*T)); row = it.Next() {
			walk.Step()
		}
	}
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
