package balancer

// Condition is all that bears on one backend beside its [Spec] and a weight of its
// own: its marks, and its share.
type Condition struct {
	ID                      string
	Down, Draining, Ejected bool
	// Share is a percentage, as of [Pool.SetShare].
	Share int
}

func (c *Condition) marks() marks {
	var m marks
	if c.Down {
		m |= markOf(Down)
	}
	if c.Draining {
		m |= markOf(Draining)
	}
	if c.Ejected {
		m |= markOf(Ejected)
	}
	return m
}

// SetConditions gives backends these marks and no others, and these shares: what
// [Pool.Mark] and [Pool.SetShare] do one by one, at the price of one change, which is
// that of looking at every backend of the pool. Those that the pool does not have are
// passed over. A panic is judged by what all of them make together.
func (p *Pool) SetConditions(conditions []Condition) {
	p.mu.Lock()
	changed := false
	for i := range conditions {
		c := &conditions[i]
		b := p.byID[c.ID]
		if b == nil {
			continue
		}
		if m := c.marks(); marks(b.marks.Load()) != m {
			p.remarkLocked(b, m)
			changed = true
		}
		if n := int64(min(max(c.Share, 0), maxShare)); b.share.Swap(n) != n {
			changed = true
		}
	}
	if changed {
		p.publishLocked(p.set.Load().all)
	}
	p.mu.Unlock()
	if changed {
		p.serve()
	}
}
