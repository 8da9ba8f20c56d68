package server_test

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/snicketlb/snicket/internal/lab"
	"github.com/snicketlb/snicket/pkg/admin/client"
	"github.com/snicketlb/snicket/pkg/proxy"
)

// metrics are the values of a scrape, by series as it is written.
type metrics map[string]float64

func (o *operated) metrics(t *testing.T) metrics {
	t.Helper()
	status, body := o.get(t, "/metrics")
	if status != 200 {
		t.Fatalf("got %d\n%s", status, body)
	}
	m := metrics{}
	lines := bufio.NewScanner(strings.NewReader(body))
	for lines.Scan() {
		i := strings.LastIndexByte(lines.Text(), ' ')
		if i < 0 || strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		v, err := strconv.ParseFloat(lines.Text()[i+1:], 64)
		if err != nil {
			t.Fatalf("%q: %v", lines.Text(), err)
		}
		m[lines.Text()[:i]] = v
	}
	return m
}

// counted is metrics in which all counts that layer 4 has shown to a client: bytes count
// in the turn of the loop in which they pass, perhaps after the client has read them,
// and a loop tells of its sessions between two turns.
func (o *operated) counted(t *testing.T) metrics {
	t.Helper()
	must(o.Sessions(t.Context(), client.SessionOptions{}))
	return o.metrics(t)
}

// want compares series; those that must not be there have the value -1.
func (m metrics) want(t *testing.T, want metrics) {
	t.Helper()
	for series, value := range want {
		got, ok := m[series]
		if !ok {
			got = -1
		}
		if got != value {
			t.Errorf("%s: got %v, want %v", series, got, value)
		}
	}
}

func TestMetrics(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	backend := lab.Serve(t, lab.Echo(), lab.Options{TLS: ca.Server(t, "a.test")})
	plain := lab.Serve(t, lab.Echo(), lab.Options{})
	cert, key := ca.WriteServer(t, "t.test")
	text := pool(unprobed, backend) + fmt.Sprintf("[[routes]]\nname = \"term\"\nhosts = [\"t.test\"]\nmode = \"terminate\"\npool = \"plain\"\n"+
		"[routes.tls]\ncertificates = [{ cert = %q, key = %q }]\n[pools.plain]\nbackends = [\"127.0.0.1:1\", %q]\nbalance = \"round-robin\"\n[pools.plain.health]\nenabled = false\n",
		cert, key, plain.Addr())
	o := operate(t, text)
	before := o.metrics(t)
	for outcome := range proxy.Outcomes {
		before.want(t, metrics{fmt.Sprintf(`snicket_sessions_total{listener="https",outcome="%v"}`, proxy.Outcome(outcome)): 0})
	}
	before.want(t, metrics{
		`snicket_route_sessions_total{outcome="ok",route="shop"}`: 0, `snicket_route_sessions_total{outcome="killed",route="shop"}`: -1,
		`snicket_route_bytes_total{direction="in",route="shop"}`: 0, `snicket_sessions_active{listener="https"}`: 0,
		`snicket_backend_state{backend="b1",pool="web",state="ready"}`: 1, `snicket_backend_state{backend="b1",pool="web",state="draining"}`: 0,
		`snicket_backend_sessions{backend="b1",pool="web"}`: 0, `snicket_queue_length{pool="web"}`: 0, `snicket_retries_total{pool="web"}`: 0,
		`snicket_probes_total{backend="b1",pool="web",result="pass"}`: 0,
		`snicket_config_reloads_total{result="success"}`:              0, `snicket_config_last_reload_success`: 1, `snicket_config_generation`: 1,
		`snicket_accept_paused`: 0, `snicket_log_dropped_total`: 0, `snicket_hello_duration_seconds_count`: 0, `snicket_handshake_duration_seconds_count`: 0,
	})
	if _, ok := before["go_goroutines"]; !ok {
		t.Error("no go_goroutines")
	}

	// While sessions last, what they carry is counted.
	c := o.session(ca, "a.test")
	term := o.session(ca, "t.test") // by way of a backend that is not there
	must(o.SetState(t.Context(), "web", "b1", "drain"))
	during := o.counted(t)
	during.want(t, metrics{
		`snicket_sessions_active{listener="https"}`: 2, `snicket_backend_sessions{backend="b1",pool="web"}`: 1,
		`snicket_backend_sessions_total{backend="b1",pool="web"}`: 1, `snicket_backend_state{backend="b1",pool="web",state="ready"}`: 0,
		`snicket_backend_state{backend="b1",pool="web",state="draining"}`:         1,
		`snicket_backend_dial_failures_total{backend="127.0.0.1:1",pool="plain"}`: 1, `snicket_retries_total{pool="plain"}`: 1,
		`snicket_route_bytes_total{direction="in",route="term"}`: 4, `snicket_route_bytes_total{direction="out",route="term"}`: 4,
		`snicket_hello_duration_seconds_count`: 2, `snicket_dial_duration_seconds_count`: 2, `snicket_handshake_duration_seconds_count`: 1,
		`snicket_handshake_duration_seconds_bucket{le="+Inf"}`: 1,
		`snicket_handshakes_total{kind="full",side="client"}`:  1, `snicket_handshakes_total{kind="resumed",side="client"}`: 0,
		`snicket_handshakes_total{kind="full",side="backend"}`: 0,
	})
	if left := during[`snicket_certificate_expiry_timestamp_seconds{name="t.test"}`] - float64(time.Now().Unix()); left < 60 || left > 1e9 {
		t.Errorf("got %v seconds left to the certificate", left)
	}
	if in := during[`snicket_route_bytes_total{direction="in",route="shop"}`]; in < 100 {
		t.Errorf("got %v bytes in while the session lasts, want its hello and more", in)
	}

	hangUp(t, c)
	hangUp(t, term)
	o.refused(ca, "secret.test", "unrecognized name")
	o.access.wait(t, `outcome=ok`, 2)
	o.access.wait(t, `outcome=no-route`, 1)
	o.write("nonsense")
	if _, err := o.Reload(t.Context()); err == nil {
		t.Error("got a reload of nonsense")
	}
	after := o.metrics(t)
	after.want(t, metrics{
		`snicket_sessions_total{listener="https",outcome="ok"}`: 2, `snicket_sessions_total{listener="https",outcome="no-route"}`: 1,
		`snicket_route_sessions_total{outcome="ok",route="shop"}`: 1, `snicket_route_sessions_total{outcome="ok",route="term"}`: 1,
		`snicket_sessions_active{listener="https"}`: 0, `snicket_backend_sessions{backend="b1",pool="web"}`: 0,
		`snicket_route_bytes_total{direction="in",route="term"}`: 4,
		`snicket_config_reloads_total{result="failure"}`:         1, `snicket_config_last_reload_success`: 0,
	})
	// What the route has counted is what its one session's record says.
	said := o.access.wait(t, `route=shop .*bytes_in=(\d+) bytes_out=(\d+)`, 1)
	in, out := after[`snicket_route_bytes_total{direction="in",route="shop"}`], after[`snicket_route_bytes_total{direction="out",route="shop"}`]
	if fmt.Sprint(int(in)) != said[1] || fmt.Sprint(int(out)) != said[2] {
		t.Errorf("got %v in and %v out, want %q", in, out, said[1:])
	}
	if _, body := o.get(t, "/metrics"); strings.Contains(body, "secret") {
		t.Error("a client's server name is in the metrics")
	} else if problems, err := promlint.New(strings.NewReader(body)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("got %v, %v; want nothing to complain of", problems, err)
	}

	// Counts live over a reload.
	o.reload(1, text+"[timeouts]\nidle = \"2h\"\n")
	o.metrics(t).want(t, metrics{
		`snicket_route_sessions_total{outcome="ok",route="shop"}`: 1, `snicket_config_generation`: 2, `snicket_config_last_reload_success`: 1,
		`snicket_retries_total{pool="plain"}`: 1,
	})
}

// A request without an answer is a failure, and no failed dial: the backend was reached.
func TestMetricsOfRequests(t *testing.T) {
	lab.Leaks(t)
	ca := lab.NewAuthority(t, "ca")
	cert, key := ca.WriteServer(t, "*.test")
	var text strings.Builder
	for name, backend := range map[string]string{"mute": lab.Serve(t, lab.Mute(), lab.Options{}).Addr(), "gone": "127.0.0.1:1"} {
		fmt.Fprintf(&text, "[[routes]]\nhosts = [\"%s.test\"]\nmode = \"terminate\"\npool = %q\n[routes.tls]\ncertificates = [{ cert = %q, key = %q }]\n"+
			"[routes.http]\nresponse_timeout = \"20ms\"\n[pools.%s]\nbackends = [{ address = %q, name = \"b\" }]\n[pools.%s.health]\nenabled = false\n",
			name, name, cert, key, name, backend, name)
	}
	o := operate(t, text.String())
	for name, status := range map[string]int{"mute": 504, "gone": 502} {
		c, from := o.speaks(ca, name+".test")
		if res, body := asks(t, c, from, name+".test"); res.StatusCode != status {
			t.Errorf("%s: got %s %q, want %d", name, res.Status, body, status)
		}
		c.Close()
	}
	o.metrics(t).want(t, metrics{
		`snicket_backend_dial_failures_total{backend="b",pool="mute"}`: 0, `snicket_backend_failures_total{backend="b",pool="mute"}`: 1,
		`snicket_backend_dial_failures_total{backend="b",pool="gone"}`: 1, `snicket_backend_failures_total{backend="b",pool="gone"}`: 1,
	})
}

// Probes are counted, and those of a backend that is gone forgotten.
func TestProbeMetrics(t *testing.T) {
	lab.Leaks(t)
	backend := lab.Serve(t, lab.Echo(), lab.Options{})
	o := operate(t, pool(quick, backend))
	o.log.wait(t, `msg="backend ready"`, 1)
	m := o.metrics(t)
	if n := m[`snicket_probes_total{backend="b1",pool="web",result="pass"}`]; n < 1 || m[`snicket_probe_duration_seconds_count{pool="web"}`] < n {
		t.Errorf("got %v probes that passed, and %v durations", n, m[`snicket_probe_duration_seconds_count{pool="web"}`])
	}
	backend.Close()
	o.log.wait(t, `msg="backend down"`, 1)
	m = o.metrics(t)
	if n := m[`snicket_probes_total{backend="b1",pool="web",result="fail"}`]; n < 2 {
		t.Errorf("got %v probes that failed, want at least the two that made it down", n)
	}
	m.want(t, metrics{`snicket_backend_state{backend="b1",pool="web",state="down"}`: 1, `snicket_backend_state{backend="b1",pool="web",state="ready"}`: 0})
	o.reload(1, passthrough("a.test", "127.0.0.1:1"))
	o.metrics(t).want(t, metrics{
		`snicket_probes_total{backend="b1",pool="web",result="fail"}`: -1, `snicket_probe_duration_seconds_count{pool="web"}`: -1,
		`snicket_backend_state{backend="b1",pool="web",state="down"}`: -1,
	})
}

// Every metric that the reference names is in a scrape, and the other way round.
func TestMetricsAreDocumented(t *testing.T) {
	lab.Leaks(t)
	text, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)(?:\\{[^`]*)?` \\|").FindAllStringSubmatch(string(text), -1) {
		documented["snicket_"+m[1]] = true
	}
	cert, key := lab.NewAuthority(t, "ca").WriteServer(t, "t.test")
	o := operate(t, pool(unprobed, lab.Serve(t, lab.Echo(), lab.Options{}))+fmt.Sprintf("[tls]\ncertificates = [{ cert = %q, key = %q }]\n", cert, key))
	_, body := o.get(t, "/metrics")
	scraped := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (snicket_\w+)`).FindAllStringSubmatch(body, -1) {
		scraped[m[1]] = true
		if !documented[m[1]] {
			t.Errorf("%s is not in the reference", m[1])
		}
	}
	for name := range documented {
		if !scraped[name] {
			t.Errorf("the reference has %s, which is not in a scrape", name)
		}
	}
}
