package balancer

import "time"

// Ramps tells for how long backends have been in their slow start, by ID.
func (p *Pool) Ramps() map[string]time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string]time.Duration{}
	now := p.options.Now().Sub(p.base)
	for _, b := range p.set.Load().all {
		if since := now - time.Duration(b.rampFrom); b.ramping && since < p.options.SlowStart {
			all[b.id] = since
		}
	}
	return all
}

// Ramp has a backend go on with a slow start that began so long ago, in another life of
// the caller's. It reports whether the pool has such a backend; one that is not ready
// begins anew once it is.
func (p *Pool) Ramp(id string, since time.Duration) bool {
	return p.change(id, func(b *Backend) bool {
		if b.marks.Load() != 0 {
			return false
		}
		b.ramping, b.cold = true, false
		b.rampFrom = int64(p.options.Now().Sub(p.base) - since)
		return true
	})
}
