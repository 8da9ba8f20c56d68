package admin

import "time"

// Status is how the process stands.
type Status struct {
	Version    string    `json:"version"`
	PID        int       `json:"pid"`
	State      State     `json:"state"`
	Ready      bool      `json:"ready"`
	NotReady   []string  `json:"not_ready"` // why
	Started    time.Time `json:"started"`
	Config     string    `json:"config"` // the file's absolute path
	Generation uint64    `json:"generation"`
	Loaded     time.Time `json:"loaded"` // when this generation came into force
	// ReloadFailed is why the latest reload failed; empty if it did not.
	ReloadFailed string `json:"reload_failed"`
	Loops        int    `json:"loops"`
	Sessions     int    `json:"sessions"`
	// MaxConnections is how many there may be, and MaxConnectionsDeclared what the
	// configuration says: it is lowered to what descriptors allow.
	MaxConnections         int        `json:"max_connections"`
	MaxConnectionsDeclared int        `json:"max_connections_declared"`
	Hellos                 int        `json:"hellos"` // unfinished ones
	Paused                 bool       `json:"accept_paused"`
	Routes                 int        `json:"routes"`
	Listeners              []Listener `json:"listeners"`
	Pools                  []Pool     `json:"pools"`
	// Faults are what is wrong with files since they were last taken, the first 100.
	Faults []Fault `json:"faults"`
}

// Fault is something wrong with a file, or what came of it, that has lasted for some
// seconds; the process runs on with what it had before.
type Fault struct {
	// What has it: certificate, host (one that no certificate covers any more), or the
	// key in the configuration that names the file, such as client_ca.
	What  string    `json:"what"`
	File  string    `json:"file"` // of a certificate; empty otherwise, as Why names it
	Why   string    `json:"why"`
	So    string    `json:"so"` // what holds meanwhile: "the one before stays"
	Since time.Time `json:"since"`
}

// State is where on its way a process is.
type State string

// The states of a process.
const (
	Running  State = "running"
	Stopping State = "stopping" // within shutdown_delay: not ready, still accepting
	Draining State = "draining" // listeners are closed, sessions have their time
)

// Listener is one address that is listened on.
type Listener struct {
	Name     string `json:"name"`
	Address  string `json:"address"`
	Sessions int    `json:"sessions"`
}

// Pool sums up the backends of a pool. One that is several of down, draining and
// ejected counts as the first of these.
type Pool struct {
	Name     string `json:"name"`
	Backends int    `json:"backends"`
	Ready    int    `json:"ready"`
	Down     int    `json:"down"`
	Draining int    `json:"draining"`
	Ejected  int    `json:"ejected"`
	Queue    int    `json:"queue"` // sessions that wait for a backend with room
	Sessions int    `json:"sessions"`
	Panic    bool   `json:"panic"` // too few are ready, so all are tried
}

// Route is one route, with what it has served since it was first declared.
type Route struct {
	Name      string   `json:"name"`
	Hosts     []string `json:"hosts"`
	Listeners []string `json:"listeners"`
	Mode      string   `json:"mode"`
	Pool      string   `json:"pool"`
	Sessions  int      `json:"sessions"` // now
	// Ended counts sessions by outcome, those that never came left out. With more routes
	// than are counted it is nil, and so are the bytes 0.
	Ended    map[string]uint64 `json:"ended"`
	BytesIn  uint64            `json:"bytes_in"`
	BytesOut uint64            `json:"bytes_out"`
}

// Backend is one backend of a pool.
type Backend struct {
	Pool    string `json:"pool"`
	Name    string `json:"name"`
	Address string `json:"address"` // empty: its name does not resolve
	// State is ready, down, draining or ejected: of several the first of the latter
	// three; Why tells of it, and Since when it is so, as far as that is known.
	State string     `json:"state"`
	Why   string     `json:"why"`
	Since *time.Time `json:"since"`
	// Probe is what probes say: ready, down, or unknown before the first has ended.
	Probe          string  `json:"probe"`
	Weight         int     `json:"weight"` // in force, a share of it by an agent not counted in
	WeightDeclared int     `json:"weight_declared"`
	Share          int     `json:"share"` // percent of Weight that its agent asks for
	Tier           int     `json:"tier"`
	Sessions       int     `json:"sessions"`
	MaxConnections int     `json:"max_connections"` // 0: no limit
	Total          uint64  `json:"total"`           // sessions that it was picked for
	DialFailures   uint64  `json:"dial_failures"`
	Failures       uint64  `json:"failures"`   // sessions, and requests of HTTP, that failed by its fault
	LatencyMS      float64 `json:"latency_ms"` // average to the first byte; 0 unless the pool balances by it
	// Wish and WeightWish are an operator's; nil: none.
	Wish       *Wish `json:"wish"`
	WeightWish *Wish `json:"weight_wish"`
}

// Wish is what an operator wants of a backend, whatever file and probes say.
type Wish struct {
	Value string    `json:"value"` // drain or down; a weight
	Since time.Time `json:"since"`
	By    string    `json:"by"`
}

// Session is one session as it stands.
type Session struct {
	ID         string `json:"id"`
	Listener   string `json:"listener"`
	Client     string `json:"client"` // empty: a Unix socket
	Peer       string `json:"peer"`
	SNI        string `json:"sni"`
	ALPN       string `json:"alpn"`
	JA4        string `json:"ja4"`
	Route      string `json:"route"`
	Mode       string `json:"mode"`
	Pool       string `json:"pool"`
	Backend    string `json:"backend"`
	Phase      string `json:"phase"`
	AgeMS      int64  `json:"age_ms"`
	IdleMS     int64  `json:"idle_ms"`
	BytesIn    int64  `json:"bytes_in"`
	BytesOut   int64  `json:"bytes_out"`
	TLSVersion string `json:"tls_version"`
	Retries    int    `json:"retries"`
}

// Sessions is an answer of at most as many sessions as were asked for.
type Sessions struct {
	Sessions []Session `json:"sessions"`
	Matched  int       `json:"matched"` // how many there are, those left out included
}

// Certificate is one certificate to be shown to clients.
type Certificate struct {
	Names     []string  `json:"names"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"` // hexadecimal
	Key       string    `json:"key"`    // its kind: "ECDSA P-256"
	SHA256    string    `json:"sha256"` // fingerprint, hexadecimal
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	File      string    `json:"file"` // empty: of ACME
	ACME      bool      `json:"acme"` // obtained and renewed by it
	Routes    []string  `json:"routes"`
	// Superseded says that another one is shown wherever this could be.
	Superseded bool `json:"superseded"`
}

// Refusal is a session that got no backend.
type Refusal struct {
	Time     time.Time `json:"time"`
	ID       string    `json:"id"`
	Listener string    `json:"listener"`
	Client   string    `json:"client"`
	SNI      string    `json:"sni"`
	ALPN     string    `json:"alpn"`
	JA4      string    `json:"ja4"`
	Route    string    `json:"route"`
	Outcome  string    `json:"outcome"`
	Error    string    `json:"error"`
}

// Event is something that happened to the balancer as a whole: a transition of a
// backend, a reload, a change by an operator.
type Event struct {
	Seq     uint64      `json:"seq"` // counts from 1
	Time    time.Time   `json:"time"`
	Level   string      `json:"level"`
	Message string      `json:"message"`
	Attrs   []Attribute `json:"attrs"`
}

// Attribute is one detail of an event.
type Attribute struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Explanation says which route a hello would take, and why the others lose.
type Explanation struct {
	Listener string    `json:"listener"`
	Pattern  string    `json:"pattern"` // the host that decides; empty: none matches
	Outcome  string    `json:"outcome"` // ok: Route takes it
	Route    string    `json:"route"`
	Mode     string    `json:"mode"`
	Pool     string    `json:"pool"`
	Verdicts []Verdict `json:"verdicts"`
	Looked   []string  `json:"looked"` // the routes of the listener, where no host matches
	Others   []Other   `json:"others"` // listeners where one does, in that case
}

// Verdict is what became of one route.
type Verdict struct {
	Route string `json:"route"`
	Won   bool   `json:"won"`
	Why   string `json:"why"`
}

// Other is a listener that has a host for the name.
type Other struct {
	Listener string `json:"listener"`
	Pattern  string `json:"pattern"`
}

// Reloaded is what a reload has done.
type Reloaded struct {
	Generation uint64   `json:"generation"`
	Changes    []string `json:"changes"`
	Warnings   []string `json:"warnings"`
}

// Upgraded is what an upgrade has done. Who answers is the old process, with its last
// word.
type Upgraded struct {
	PID     int    `json:"pid"` // of the process that runs now
	Version string `json:"version"`
	Moved   int    `json:"moved"` // sessions
	// Stay is the number of sessions that cannot move: they end in the old process, at
	// the latest when its drain timeout is over.
	Stay int `json:"stay"`
	// PauseMS is how long sessions that moved stood still at most.
	PauseMS float64 `json:"pause_ms"`
}

// Difference is what a reload would do now.
type Difference struct {
	Changes  []string `json:"changes"`
	Warnings []string `json:"warnings"`
	// Diff is from the configuration in force to the file, both with every default
	// written out, in the unified form; empty: they are the same.
	Diff string `json:"diff"`
}
