package config

import (
	"slices"
	"time"
)

// eject reads [pools.NAME.eject]; nil without the table.
func (d *decoder) eject(t table) *Eject {
	v := t.get("eject")
	if v == nil {
		return nil
	}
	t = d.table(v, ejectTable, t.at)
	e := &Eject{
		Failures:   t.int("failures", 5, 0, 1_000_000),
		Ratio:      t.share("ratio", 0),
		Window:     t.duration("window", 10*time.Second, time.Second, time.Hour),
		Minimum:    t.int("minimum", 20, 1, 1_000_000),
		For:        t.duration("for", 10*time.Second, time.Millisecond, maxDuration),
		MaxEjected: t.share("max_ejected", 0.5),
	}
	e.Max = t.duration("max", max(5*time.Minute, e.For), time.Millisecond, maxDuration)
	switch {
	case e.Failures == 0 && e.Ratio == 0:
		d.problem(t.pos("failures"), "write failures = 5, or a ratio, or drop the table", "eject that nothing leads to: failures and ratio are 0")
	case e.MaxEjected == 0:
		d.problem(t.pos("max_ejected"), "write a share such as 0.5, or drop the table", "max_ejected is 0, which ejects nothing")
	case e.Max < e.For:
		d.problem(t.pos("max"), "make it "+formatDuration(e.For)+" or longer", "max, %s, is shorter than for, %s", formatDuration(e.Max), formatDuration(e.For))
	}
	if e.Ratio == 0 {
		for _, key := range []string{"window", "minimum"} {
			if v := t.get(key); v != nil {
				d.problem(v.pos(), "add ratio = 0.5 or another, or drop it", "%s without a ratio, which alone has it", key)
			}
		}
	}
	return e
}

// checkEject warns of a share that is less than one of the pool's backends. Of a single
// one, the last, none is ever ejected, whatever the share.
func (d *decoder) checkEject(t table, p *Pool) {
	v := t.get("eject")
	if v == nil || p.Eject == nil || v.kind != kindTable || v.at("max_ejected") == nil || len(p.Backends) < 2 {
		return
	}
	names := slices.ContainsFunc(p.Backends, func(b Backend) bool { return b.Address.Kind == AddressName })
	const rounding = 1e-9 // a tenth of ten is one
	if share := p.Eject.MaxEjected; share > 0 && share*float64(len(p.Backends)) < 1-rounding && !names {
		d.warning(v.at("max_ejected").pos(), "write a larger share", "max_ejected is %v, less than one of %d backends: none is ever ejected", share, len(p.Backends))
	}
}
