package config

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// balance reads how a pool chooses, and what it does when it is short of backends.
func (d *decoder) balance(t table, p *Pool) {
	policies := []string{
		string(LeastConnections), string(RoundRobin), string(RandomTwo),
		string(SourceHash), string(SNIHash), string(LeastTime),
	}
	p.Balance = Balance(t.choice("balance", string(LeastConnections), policies...))
	p.PanicBelow = t.share("panic_below", 0)
	p.OnDown = OnDown(t.choice("on_down", string(KeepSessions), string(KeepSessions), string(CloseSessions)))
	p.SlowStart = t.duration("slow_start", 0, 0, maxDuration)
	q := t.sub("queue", queueTable)
	p.Queue = Queue{
		Size:    q.int("size", 0, 0, maxCount),
		Timeout: q.duration("timeout", 5*time.Second, time.Millisecond, maxDuration),
	}
	if q.get("timeout") != nil && q.missing("size") {
		d.problem(q.pos("timeout"), `add size = 100 or another: how many sessions may wait`, "a queue without a size")
	}
}

// checkQueue warns of a queue in which nobody can ever wait.
func (d *decoder) checkQueue(t table, p *Pool) {
	limited := slices.ContainsFunc(p.Backends, func(b Backend) bool { return b.MaxConnections > 0 })
	if p.Queue.Size == 0 || limited || p.Discover != nil && p.Discover.Kind == DiscoverFile {
		return
	}
	hint := "give backends max_connections, or drop it"
	if p.Discover != nil {
		hint = "drop it: backends from DNS have no max_connections"
	}
	d.warning(t.pos("queue"), hint, "nobody ever waits in the queue of pool %q: no backend has a limit", p.Name)
}

// share reads a number from 0 to 1.
func (t table) share(key string, byDefault float64) float64 {
	v := t.get(key)
	if v == nil {
		return byDefault
	}
	var n float64
	switch scalar := v.scalar.(type) {
	case float64:
		n = scalar
	case int64:
		n = float64(scalar)
	default:
		t.d.wrongType(v, key, "a share", fmt.Sprintf("write a number from 0.0 to 1.0, without quotes: %s = 0.5", key))
		return byDefault
	}
	if !(n >= 0 && n <= 1) { // also not NaN
		hint := "write a number from 0.0 to 1.0"
		if n > 1 && n <= 100 {
			hint = fmt.Sprintf("it is a share, not per cent: write %s = %s", key, tomlValue(n/100))
		}
		t.d.problem(v.pos(), hint, "%s is %s", key, strconv.FormatFloat(n, 'g', -1, 64))
		return byDefault
	}
	return n
}
