package loop

import "iter"

// keepCoroutines is how many idle coroutines are kept with the stacks they have
// grown. The collector shrinks what is not used.
const keepCoroutines = 64

// A Task is code that waits in its middle: it runs as a coroutine, and waits by
// [Coroutine.Yield].
type Task interface {
	Run(c *Coroutine)
}

// A Coroutine runs one Task on the thread of whoever resumes it, between one
// Yield and the next. Neither the scheduler nor a lock is involved: a switch
// takes about as long as a system call that does nothing.
//
// It belongs to the thread that started it, as a loop is locked to its own.
type Coroutine struct {
	next  func() (struct{}, bool)
	stop  func()
	yield func(struct{}) bool
	task  Task
}

// Coroutines are those of one loop. The zero value is ready.
type Coroutines struct {
	idle []*Coroutine
	busy int
}

// Start makes a coroutine of t. Nothing of it has run yet.
func (p *Coroutines) Start(t Task) *Coroutine {
	p.busy++
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		c.task = t
		return c
	}
	c := &Coroutine{task: t}
	c.next, c.stop = iter.Pull(c.run)
	return c
}

// run serves one task after the other, with a yield behind each.
func (c *Coroutine) run(yield func(struct{}) bool) {
	c.yield = yield
	for again := true; again; again = yield(struct{}{}) {
		c.task.Run(c)
		c.task = nil
	}
}

// Resume runs the task until it yields or returns; true says that it has
// returned, and c must not be used any more. A panic of the task is one of Resume.
func (p *Coroutines) Resume(c *Coroutine) (done bool) {
	c.next()
	if c.task != nil {
		return false
	}
	p.busy--
	if len(p.idle) < keepCoroutines {
		p.idle = append(p.idle, c)
	} else {
		c.stop()
	}
	return true
}

// Yield returns to whoever resumed the coroutine, until it is resumed again. The
// task alone may call it.
func (c *Coroutine) Yield() { c.yield(struct{}{}) }

// Busy is the number of coroutines whose tasks have not returned.
func (p *Coroutines) Busy() int { return p.busy }

// Close ends the idle coroutines. All tasks must have returned: a coroutine
// cannot be ended from outside.
func (p *Coroutines) Close() {
	for _, c := range p.idle {
		c.stop()
	}
	p.idle = nil
}
