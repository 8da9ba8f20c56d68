package wire

import (
	"net/netip"
	"slices"
	"time"

	"github.com/snicketlb/snicket/benchmarks/internal/proc"
	"github.com/snicketlb/snicket/benchmarks/internal/stat"
)

// Spec says what a load does. The parts run together; zero leaves a part out.
type Spec struct {
	Address netip.AddrPort `json:"address"` // of the balancer
	Pid     int            `json:"pid"`     // of the balancer: the root of its tree
	Warm    time.Duration  `json:"warm"`    // before the window
	Window  time.Duration  `json:"window"`  // what is measured
	Names   int            `json:"names"`   // the host names in use, 1 at least

	Idle   int     `json:"idle"`   // sessions opened first and held
	New    int     `json:"new"`    // short sessions at once: hello, 1 KiB back, close
	First  bool    `json:"first"`  // the client of a short session closes first, not the backend
	Rate   float64 `json:"rate"`   // short sessions begun each second, whether or not others have ended
	Pull   int     `json:"pull"`   // downloads
	Push   int     `json:"push"`   // uploads
	Ping   int     `json:"ping"`   // sessions of 64 bytes there and back
	Pings  float64 `json:"pings"`  // messages each second over all of them; 0: each as fast as it can
	Settle bool    `json:"settle"` // measure what the idle sessions hold, before the window
	// Every takes samples within the window. A session begun at Rate is then not given up as late.
	Every time.Duration `json:"every,omitempty"`

	TLS    bool `json:"tls"`    // terminated: the load speaks TLS; New, Pull and Idle alone
	Resume bool `json:"resume"` // every session but a worker's first is resumed
	Hybrid bool `json:"hybrid"` // X25519MLKEM768 instead of X25519
}

// Latency holds quantiles in microseconds.
type Latency struct {
	N    int     `json:"n"`
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
}

func latency(all []int64) Latency {
	slices.Sort(all)
	us := func(q float64) float64 { return float64(stat.Quantile(all, q)) / 1e3 }
	return Latency{N: len(all), P50: us(0.5), P99: us(0.99), P999: us(0.999)}
}

// Result is what a load saw and what the balancer used within the window.
type Result struct {
	Seconds  float64    `json:"seconds"`
	CPU      proc.Usage `json:"cpu"`
	Sessions int64      `json:"sessions"` // short sessions that ended well
	Bytes    int64      `json:"bytes"`    // of downloads and uploads
	Trips    int64      `json:"trips"`    // messages there and back
	Resumed  int64      `json:"resumed"`  // of Sessions
	Session  Latency    `json:"session"`  // from connect to the last byte
	Trip     Latency    `json:"trip"`

	Failed int64  `json:"failed"` // sessions that broke, of any kind, at any time
	Late   int64  `json:"late"`   // begun at Rate and not ended within half a second; counted within the window
	Error  string `json:"error"`  // of the first that failed

	Idle        int         `json:"idle"`         // held while the memory was read
	Before      proc.Memory `json:"before"`       // before they were opened
	After       proc.Memory `json:"after"`        // a second after
	BeforeFiles int         `json:"before_files"` // descriptors
	AfterFiles  int         `json:"after_files"`

	Samples []Sample `json:"samples,omitempty"`
}

// Sample is how things stood at a moment of the window, and what has passed since the one before.
type Sample struct {
	Seconds  float64     `json:"seconds"` // since the window began
	Memory   proc.Memory `json:"memory"`
	Files    int         `json:"files"` // descriptors
	CPU      proc.Usage  `json:"cpu"`   // since the sample before
	Sessions int64       `json:"sessions"`
	Failed   int64       `json:"failed"` // since the load began
	Bytes    int64       `json:"bytes"`
	Trips    int64       `json:"trips"`
	Session  Latency     `json:"session"`
	Trip     Latency     `json:"trip"`
}

// meter reads the balancer at the edges of the window.
type meter struct {
	tree  []int
	usage proc.Usage
	began time.Time
}

func newMeter(pid int) (*meter, error) {
	tree, err := proc.Tree(pid)
	return &meter{tree: tree}, err
}

func (m *meter) start() (err error) {
	m.began = time.Now()
	m.usage, err = proc.CPU(m.tree)
	return err
}

func (m *meter) stop(r *Result) error {
	var err error
	r.CPU, r.Seconds, err = m.used()
	return err
}

// used is what the balancer has used since the window began.
func (m *meter) used() (proc.Usage, float64, error) {
	now, err := proc.CPU(m.tree)
	return now.Sub(m.usage), time.Since(m.began).Seconds(), err
}

func (m *meter) memory() (proc.Memory, int, error) {
	memory, err := proc.Mem(m.tree)
	if err != nil {
		return memory, 0, err
	}
	files, err := proc.Descriptors(m.tree)
	return memory, files, err
}
