package main

import (
	"container/heap"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

// result is one policy in one situation.
type result struct {
	Situation, What, Policy string

	// HighestLoad is the most sessions that a backend had at any time, for each
	// of its workers: above 1, some waited. Imbalance is the mean over time of
	// the highest load of a backend, in units of the mean load then.
	HighestLoad, Imbalance float64

	// Waited is the share of the sessions that waited for a worker, P99 and
	// P999 what 1 in 100 and 1 in 1000 waited longer than, in seconds.
	Waited, P99, P999 float64
}

// server is a machine at work.
type server struct {
	machine
	backend *balancer.Backend
	busy    int
	waiting []waiter // from first on
	first   int
}

type waiter struct {
	since, length time.Duration
}

// end is when a worker of a server is done with a session.
type end struct {
	at     time.Duration
	server int
}

type ends []end

func (e ends) Len() int           { return len(e) }
func (e ends) Less(i, j int) bool { return e[i].at < e[j].at }
func (e ends) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *ends) Push(x any)        { *e = append(*e, x.(end)) }
func (e *ends) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// world is one simulation. Its clock is the pool's.
type world struct {
	now     time.Duration
	pool    *balancer.Pool
	servers []*server
	ends    ends
	waits   []time.Duration

	highest   float64
	imbalance float64 // summed over samples
	samples   int
}

// dial and answer are what a session measures besides its waiting: connecting,
// and the first byte of a backend of speed 1.
const (
	dial   = 500 * time.Microsecond
	answer = 10 * time.Millisecond
)

func newWorld(s situation, policy balancer.Policy) *world {
	w := &world{pool: balancer.New(s.name)}
	start := time.Now()
	w.pool.Configure(balancer.Options{
		Policy: policy,
		Now:    func() time.Time { return start.Add(w.now) },
		Rand:   rand.New(rand.NewPCG(2, 2)).Uint64,
	})
	var specs []balancer.Spec
	for i, m := range s.backends {
		specs = append(specs, balancer.Spec{ID: "10.0.0." + strconv.Itoa(i+1) + ":443", Weight: m.weight, Value: i})
	}
	w.pool.Update(specs)
	for i, b := range w.pool.Backends() {
		w.servers = append(w.servers, &server{machine: s.backends[i], backend: b})
	}
	return w
}

// simulate lets the sessions come and go.
func simulate(s situation, policy balancer.Policy, sessions int, seed uint64) result {
	w := newWorld(s, policy)
	w.waits = make([]time.Duration, 0, sessions)
	source := newArrivals(load*s.capacity(), seed)
	for i := range sessions {
		next := source.next()
		at := w.now + next.after
		w.advance(at)
		w.now = at
		w.arrive(next)
		if i%16 == 0 {
			w.sample()
		}
	}
	for len(w.ends) > 0 {
		w.advance(w.ends[0].at)
	}
	return w.result(s, policy)
}

// advance ends the sessions that are over by then.
func (w *world) advance(until time.Duration) {
	for len(w.ends) > 0 && w.ends[0].at <= until {
		e := heap.Pop(&w.ends).(end)
		w.now = e.at
		s := w.servers[e.server]
		s.busy--
		w.pool.Release(s.backend, balancer.Result{})
		if s.first < len(s.waiting) {
			next := s.waiting[s.first]
			s.first++
			if s.first == len(s.waiting) {
				s.waiting, s.first = s.waiting[:0], 0
			}
			w.begin(e.server, next)
		}
	}
}

func (w *world) arrive(s session) {
	b, err := w.pool.Acquire(balancer.Pick{Client: s.client, Name: s.name})
	if err != nil {
		panic(err) // every backend is ready and without a limit
	}
	i := b.Value().(int)
	srv := w.servers[i]
	w.highest = max(w.highest, srv.load())
	arrived := waiter{since: w.now, length: s.length}
	if srv.busy == srv.workers {
		srv.waiting = append(srv.waiting, arrived)
		return
	}
	w.begin(i, arrived)
}

// begin gives a session its worker.
func (w *world) begin(i int, s waiter) {
	srv := w.servers[i]
	srv.busy++
	waited := w.now - s.since
	w.waits = append(w.waits, waited)
	w.pool.Observe(srv.backend, balancer.Result{Dial: dial, FirstByte: waited + scaled(answer, srv.speed)})
	heap.Push(&w.ends, end{at: w.now + scaled(s.length, srv.speed), server: i})
}

func scaled(d time.Duration, speed float64) time.Duration {
	return time.Duration(float64(d) / speed)
}

// load is the sessions of a server for each of its workers.
func (s *server) load() float64 { return float64(s.backend.Active()) / float64(s.workers) }

func (w *world) sample() {
	sum, most := 0.0, 0.0
	for _, s := range w.servers {
		sum += s.load()
		most = max(most, s.load())
	}
	w.imbalance += most / (sum / float64(len(w.servers)))
	w.samples++
}

func (w *world) result(s situation, policy balancer.Policy) result {
	slices.Sort(w.waits)
	none, _ := slices.BinarySearch(w.waits, 1)
	n := len(w.waits)
	return result{
		Situation: s.name, What: s.what, Policy: policy.String(),
		HighestLoad: w.highest, Imbalance: w.imbalance / float64(w.samples),
		Waited: float64(n-none) / float64(n),
		P99:    w.waits[n*99/100].Seconds(), P999: w.waits[n*999/1000].Seconds(),
	}
}
