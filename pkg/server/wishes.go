package server

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/registry"
)

// setState makes drain or down what an operator wishes of a backend, or with ready
// nothing. When it has returned no new session is given another backend than that asks
// for.
func (s *Server) setState(pool, backend, state, by string) error {
	return s.wish(pool, backend, func(w *registry.Wished) {
		wish := registry.Wish(state)
		if state == "ready" {
			wish = registry.NoWish
		}
		if w.State == wish { // and so it has been since then
			return
		}
		w.State, w.Since, w.By = wish, time.Now(), by
		if wish == registry.NoWish {
			w.Since, w.By = time.Time{}, ""
		}
	})
}

// setWeight makes weight an operator's wish for a backend; negative: the declared one.
func (s *Server) setWeight(pool, backend string, weight int, by string) error {
	return s.wish(pool, backend, func(w *registry.Wished) {
		switch {
		case weight < 0:
			w.Weighs, w.Weight, w.WeightSince, w.WeightBy = false, 0, time.Time{}, ""
		case !w.Weighs || w.Weight != weight:
			w.Weighs, w.Weight, w.WeightSince, w.WeightBy = true, weight, time.Now(), by
		}
	})
}

// wish has change write what an operator wants, and puts it into force.
func (s *Server) wish(pool, backend string, change func(*registry.Wished)) error {
	s.changing.Lock()
	defer s.changing.Unlock()
	if err := s.servesStill(); err != nil {
		return err
	}
	if !s.registry.Wish(pool, backend, change) {
		return s.noBackend(pool, backend)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reconcileLocked(s.registry.View(), true)
	return nil
}

// servesStill is an error once another process serves: what is changed here has no effect
// there. The caller holds changing.
func (s *Server) servesStill() error {
	if s.phase.get() == handedOver {
		return admin.Conflict("another process serves since an upgrade", "ask again", nil)
	}
	return nil
}

// noBackend says what there is instead.
func (s *Server) noBackend(pool, backend string) error {
	v := s.registry.View()
	var names []string
	for _, b := range v.Backends(pool) {
		names = append(names, b.ID)
	}
	if names != nil {
		return admin.NotFound(fmt.Sprintf("pool %s has no backend %s", pool, backend), "it has "+listed(names))
	}
	pools := []string{}
	for _, p := range v.Pools() {
		pools = append(pools, p.Name)
	}
	if slices.Contains(pools, pool) {
		return admin.NotFound(fmt.Sprintf("pool %s has no backend now", pool), "")
	}
	return admin.NotFound(fmt.Sprintf("no pool %s", pool), "there is "+listed(pools))
}

// listed is at most ten names, separated by commas.
func listed(names []string) string {
	const most = 10
	if n := len(names); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}
