package balancer

// set is one immutable snapshot of a pool: every backend in spec order, and of
// those the ones that may be picked, by tier.
type set struct {
	all     []*Backend
	primary []member
	backup  []member
}

// member is a backend that may be picked, with what a pick needs to know of it
// side by side in memory.
type member struct {
	*Backend
	weight int64  // 1 to maxWeight
	limit  int64  // 0: none
	stride uint64 // how far one session moves its turn
}

func newSet(all []*Backend) *set {
	s := &set{all: all, primary: make([]member, 0, len(all))}
	for _, b := range all {
		spec := b.spec.Load()
		w := spec.weight()
		if w == 0 || b.State() != Ready {
			continue
		}
		m := member{Backend: b, weight: w, limit: int64(max(spec.MaxConnections, 0)), stride: uint64(maxWeight / w)}
		if spec.Backup {
			s.backup = append(s.backup, m)
		} else {
			s.primary = append(s.primary, m)
		}
	}
	return s
}
