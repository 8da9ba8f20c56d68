package web

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/snicketlb/snicket/balancer"
)

// exchange is one request on its way to a backend and its answer on the way back.
// It is the http.RoundTripper of that request alone.
type exchange struct {
	site   *Site
	pool   *Pool
	visit  *visit
	in     *http.Request   // as it came
	ctx    context.Context // of the exchange: done when the client is gone or a timeout has ended it
	cancel context.CancelCauseFunc
	body   *upload // nil: none

	tunnels  bool      // the client asks for 101
	upgraded bool      // the answer was that
	answer   *download // what is being passed on; nil: nothing yet

	base time.Time
	last atomic.Int64 // when a byte came or went, since base
	idle *time.Timer

	presence *time.Timer // nil: net/http reads from the client all the time

	mu      sync.Mutex          // guards the fields below
	out     http.ResponseWriter // nil once the handler is done with it
	waiting *time.Timer         // for the answer to begin; nil once it has, or nobody waits for it
}

// begin starts what watches over the exchange. The caller ends it.
func (x *exchange) begin() {
	x.base = time.Now()
	if d := x.site.o.Idle; d > 0 {
		x.idle = stopped(x.look)
		x.idle.Reset(d)
	}
	if d := x.site.o.ResponseTimeout; d > 0 {
		x.waiting = stopped(func() { x.cancel(ErrResponseTimeout) }) // until a backend has the request
	}
	x.heed()
}

func (x *exchange) end() {
	if x.presence != nil {
		x.presence.Stop()
	}
	if x.idle != nil {
		x.idle.Stop()
	}
	x.answered()
	x.cancel(context.Canceled)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.out = nil
}

// stopped is a timer that calls f once it is set: f may use it.
func stopped(f func()) *time.Timer {
	t := time.AfterFunc(math.MaxInt64, f)
	t.Stop()
	return t
}

// stamp notes that a byte came or went.
func (x *exchange) stamp() { x.last.Store(int64(time.Since(x.base))) }

// look ends the exchange if it has been idle for too long. Its connection goes with
// it, but for HTTP/2, where others are on it and its stream is reset: one of HTTP/1.1
// that stands in the middle of a message can carry nothing more. Either may be what is
// waited for, by a client that takes no byte.
func (x *exchange) look() {
	if left := x.site.o.Idle - (time.Since(x.base) - time.Duration(x.last.Load())); left > 0 {
		x.idle.Reset(left)
		return
	}
	x.visit.fail(ErrIdle)
	x.cancel(ErrIdle)
	if !x.visit.h2() {
		x.visit.client.Conn.Close()
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.out != nil {
		_ = http.NewResponseController(x.out).SetWriteDeadline(time.Unix(1, 0)) // an error: it is over
	}
}

// sent says that the backend has all of the request: its answer is awaited now, if it
// has not begun before.
func (x *exchange) sent() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.waiting != nil {
		x.waiting.Reset(x.site.o.ResponseTimeout)
	}
}

// unsent says that the backend will not answer, and another may be asked.
func (x *exchange) unsent() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.waiting != nil {
		x.waiting.Stop()
	}
}

// answered says that the answer has begun, or is not awaited any more.
func (x *exchange) answered() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.waiting != nil {
		x.waiting.Stop()
		x.waiting = nil
	}
}

// RoundTrip sends the request to a backend, and to a further one where that can do
// no harm.
func (x *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	c := x.visit.client
	pick := balancer.Pick{Client: c.Addr.Addr(), Name: c.SNI}
	var tried error // of the backends in pick
	for {
		b, err := x.pool.acquire(x.ctx, pick)
		if err != nil && tried != nil {
			return nil, tried // which tells more than that there is no other
		}
		if err != nil {
			return nil, err
		}
		if tried != nil {
			x.visit.retries.Add(1)
		}
		if c.Picked != nil {
			c.Picked(b)
		}
		a := &attempt{x: x, backend: b, lane: x.visit.shelf(x.pool).lane(b, c)}
		res, err := a.do(r)
		if err == nil {
			return res, nil
		}
		if !a.unseen || len(pick.Tried) >= x.pool.o.Retries || x.ctx.Err() != nil || errors.Is(err, ErrLocal) {
			return nil, err // where it is our own, no other backend would do better
		}
		pick.Tried, tried = append(pick.Tried, b), err
	}
}

// attempt is an exchange with one backend, for which that has been acquired.
type attempt struct {
	x       *exchange
	backend *balancer.Backend
	lane    *lane
	link    *link

	unseen          bool // it failed, and the backend has seen nothing of the request
	dial, firstByte time.Duration
	wrote           atomic.Bool // the header, of HTTP/2
	once            sync.Once
}

// do sends the request, once more if a kept connection turns out to be stale. If it
// fails the backend has been released.
func (a *attempt) do(r *http.Request) (*http.Response, error) {
	res, stale, err := a.send(r, false)
	if stale {
		a.x.visit.retries.Add(1)
		res, _, err = a.send(r, true)
	}
	if err == nil {
		return res, nil
	}
	a.x.unsent()
	if cause := context.Cause(a.x.ctx); cause != nil {
		err = cause
	}
	fault := err
	if isCanceled(err) || errors.Is(err, ErrLocal) || errors.Is(err, ErrIdle) {
		fault = nil
	}
	a.release(fault)
	return nil, err
}

// send sends the request over one connection, a kept one unless anew. stale says
// that it failed because the backend had given that up, and may be sent again.
func (a *attempt) send(r *http.Request, anew bool) (res *http.Response, stale bool, err error) {
	x := a.x
	begun := time.Now()
	k, fresh, err := a.lane.take(x.ctx, x.visit.client, anew)
	if err != nil {
		a.unseen = true
		return nil, false, err
	}
	a.link, a.dial = k, 0
	now := time.Now()
	if fresh {
		a.dial = now.Sub(begun)
	}
	if x.body != nil {
		r = r.WithContext(r.Context())
		r.Body = &once{ReadCloser: r.Body}
	} else {
		x.sent()
	}
	read, written := k.meter.read.Load(), k.meter.written.Load()
	a.wrote.Store(false)
	if k.h2 {
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{WroteHeaders: func() { a.wrote.Store(true) }}))
	}
	if res, err = k.cc.RoundTrip(r); err == nil && res.StatusCode < http.StatusOK && res.StatusCode != http.StatusSwitchingProtocols {
		_ = res.Body.Close()
		err = fmt.Errorf("an answer with the status %d", res.StatusCode) // which net/http does not let us write
	}
	if err == nil {
		a.firstByte = time.Since(now)
		x.answered()
		x.stamp()
		if !k.h2 {
			k.heed(res.Header)
		}
		res.Body = a.download(res)
		return res, false, nil
	}
	nothing := k.meter.written.Load() == written
	silent := k.meter.read.Load() == read
	if k.h2 {
		nothing, silent = !a.wrote.Load(), true // the connection carries others too
	}
	a.lane.put(k, true)
	a.link = nil
	untouched := x.body == nil || !x.body.touched.Load()
	a.unseen = nothing && untouched
	stale = !fresh && x.ctx.Err() == nil && (a.unseen || silent && x.body == nil && isSafe(r.Method))
	return nil, stale, err
}

// release gives back the connection and the backend.
func (a *attempt) release(fault error) {
	a.once.Do(func() {
		if a.link != nil {
			a.lane.put(a.link, fault != nil)
		}
		a.lane.leave()
		a.x.pool.o.Balancer.Release(a.backend, balancer.Result{Dial: a.dial, FirstByte: a.firstByte, Err: fault})
	})
}

// isSafe reports whether a request of the method may be sent twice.
func isSafe(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

func isCanceled(err error) bool { return errors.Is(err, context.Canceled) }
