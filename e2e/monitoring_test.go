//go:build e2e

package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

const monitoring = "../examples/monitoring"

// TestAlertRules has promtool check the rules, and try when each fires and when it does not yet.
func TestAlertRules(t *testing.T) {
	lab.Require(t, "promtool", "prometheus")
	mustTool(t, "", "promtool", "check", "rules", filepath.Join(monitoring, "snicket.rules.yml"))
	mustTool(t, "", "promtool", "check", "config", filepath.Join(monitoring, "prometheus.yml"))
	mustTool(t, "", "promtool", "test", "rules", filepath.Join(monitoring, "snicket.rules.test.yml"))
	tests := read(t, filepath.Join(monitoring, "snicket.rules.test.yml"))
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(read(t, filepath.Join(monitoring, "snicket.rules.yml")), -1)
	if len(alerts) == 0 {
		t.Fatal("no alert found")
	}
	for _, a := range alerts {
		for what, pattern := range map[string]string{"fires": `alertname: %s\n +eval_time: \w+\n +exp_alerts:\n +- exp_labels`, "does not fire": `alertname: %s, eval_time: \w+, exp_alerts: \[\]`} {
			if !regexp.MustCompile(fmt.Sprintf(pattern, a[1])).MatchString(tests) {
				t.Errorf("no test of when %s %s", a[1], what)
			}
		}
	}
}

// TestMonitoring has a Prometheus scrape a balancer that is in trouble: the alerts about it come, and whatever the
// rules and the dashboard ask for is there.
func TestMonitoring(t *testing.T) {
	ca := lab.NewAuthority(t, "edge")
	cert, key := lab.WriteCertificate(t, ca.Issue(t, lab.Certificate{Names: []string{"a.test"}, NotAfter: time.Now().Add(48 * time.Hour)}))
	echo := lab.Serve(t, lab.Echo(), lab.Options{})
	addr, metrics, gone := lab.FreeAddr(t), lab.FreeAddr(t), lab.FreeAddr(t)
	config := listener(addr) + fmt.Sprintf("[admin]\naddress = %q\n", metrics) +
		terminated("a.test", "a", cert, key, []string{echo.Addr()}, "[pools.a.health]", `interval = "100ms"`) +
		passthrough("gone.test", "gone", []string{gone}, "[pools.gone.health]", `interval = "100ms"`)
	b := start(t, config)
	b.WaitLine(`msg="backend down" pool=gone`)
	p := startPrometheus(t, metrics)
	if ok, line := b.reload("nonsense"); ok {
		t.Fatalf("nonsense was taken: %s", line)
	}
	// Sessions all the while, so that what is counted has a rate.
	load(t, "calls", "-target", addr, "-sni", "a.test", "-rate", "20", "-for", "5m", "-tls", "-ca", ca.WriteCA(t)).WaitLine("^calling")
	load(t, "calls", "-target", addr, "-sni", "gone.test", "-rate", "20", "-for", "5m").WaitLine("^calling")

	for _, want := range []string{
		`SnicketCertificateExpiresNow critical name=a.test`,
		`SnicketReloadFailed warning`,
		`SnicketPoolWithoutReadyBackend critical pool=gone`,
	} {
		await(t, want, func() bool { return slices.Contains(p.firing(t), want) })
	}
	if firing := p.firing(t); slices.ContainsFunc(firing, func(a string) bool { return strings.Contains(a, "pool=a") || strings.Contains(a, "Unreachable") }) {
		t.Errorf("got alerts of what is well: %q", firing)
	}

	var names struct{ Data []string }
	p.get(t, "/api/v1/label/__name__/values", nil, &names)
	var rules struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Query, Health, LastError string }
			}
		}
	}
	p.get(t, "/api/v1/rules", nil, &rules)
	var asked []string
	for _, g := range rules.Data.Groups {
		for _, r := range g.Rules {
			asked = append(asked, r.Query)
			if r.Health != "ok" {
				t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if len(asked) == 0 {
		t.Fatal("the Prometheus has no rules")
	}
	asked = append(asked, dashboardQueries(t)...)
	named := regexp.MustCompile(`\b(snicket|process)_\w+`)
	for _, q := range asked {
		for _, name := range named.FindAllString(q, -1) {
			if !slices.Contains(names.Data, name) {
				t.Errorf("%s: a scrape has no %s", q, name)
			}
		}
	}
	for _, q := range dashboardQueries(t) {
		await(t, q, func() bool { return p.series(t, q) > 0 })
	}
}

// dashboardQueries are those of each panel, variable and annotation, as Grafana would fill them in.
func dashboardQueries(t *testing.T) []string {
	t.Helper()
	var board struct {
		Panels []struct {
			Type, Title string
			Targets     []struct{ Expr string }
		}
		Templating struct {
			List []struct{ Type, Definition string }
		}
		Annotations struct{ List []struct{ Expr string } }
	}
	if err := json.Unmarshal([]byte(read(t, filepath.Join(monitoring, "dashboard.json"))), &board); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$__rate_interval", "30s", "$instance", ".*", "$route", ".*", "$pool", ".*")
	var queries []string
	for _, p := range board.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			queries = append(queries, fill.Replace(target.Expr))
		}
	}
	values := regexp.MustCompile(`^label_values\((.*), \w+\)$`)
	for _, v := range board.Templating.List {
		if v.Type == "query" {
			match := values.FindStringSubmatch(v.Definition)
			if match == nil {
				t.Fatalf("variable by %q", v.Definition)
			}
			queries = append(queries, fill.Replace(match[1]))
		}
	}
	for _, a := range board.Annotations.List {
		// No reload has taken place: that it can be asked for is enough.
		queries = append(queries, strings.Replace(fill.Replace(a.Expr), "> 0", ">= 0", 1))
	}
	if len(queries) < 30 {
		t.Fatalf("got %d queries of the dashboard", len(queries))
	}
	return queries
}

// prometheus is a running Prometheus.
type prometheus struct {
	*lab.Process
	addr string
}

// startPrometheus runs one with the example's configuration and rules, which scrapes target, twice a second.
func startPrometheus(t *testing.T, target string) *prometheus {
	t.Helper()
	lab.Require(t, "prometheus", "prometheus")
	dir := t.TempDir()
	for _, name := range []string{"prometheus.yml", "snicket.rules.yml"} {
		text := read(t, filepath.Join(monitoring, name))
		if name == "prometheus.yml" {
			text = "global: { evaluation_interval: 500ms }\n" +
				replaceOnce(t, replaceOnce(t, text, "127.0.0.1:9600", target), "scrape_interval: 15s", "scrape_interval: 500ms")
		}
		lab.WriteFile(t, filepath.Join(dir, name), []byte(text))
	}
	addr := lab.FreeAddr(t)
	p := lab.Start(t, lab.Command{Path: "prometheus", Args: []string{
		"--config.file=" + filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + addr,
	}})
	p.WaitLine(`msg="Server is ready to receive web requests`)
	return &prometheus{p, addr}
}

// get asks the API.
func (p *prometheus) get(t *testing.T, path string, query url.Values, answer any) {
	t.Helper()
	res, err := http.Get("http://" + p.addr + path + "?" + query.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(answer); err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s?%s: %s, %v", path, query.Encode(), res.Status, err)
	}
}

// series is how many a query returns.
func (p *prometheus) series(t *testing.T, query string) int {
	t.Helper()
	var answer struct {
		Data struct{ Result []json.RawMessage }
	}
	p.get(t, "/api/v1/query", url.Values{"query": {query}}, &answer)
	return len(answer.Data.Result)
}

// firing are the alerts that fire, as "NAME SEVERITY pool=POOL name=NAME".
func (p *prometheus) firing(t *testing.T) []string {
	t.Helper()
	var answer struct {
		Data struct {
			Alerts []struct {
				State  string
				Labels map[string]string
			}
		}
	}
	p.get(t, "/api/v1/alerts", nil, &answer)
	var firing []string
	for _, a := range answer.Data.Alerts {
		if a.State != "firing" {
			continue
		}
		text := a.Labels["alertname"] + " " + a.Labels["severity"]
		for _, label := range []string{"pool", "name"} {
			if v, ok := a.Labels[label]; ok {
				text += " " + label + "=" + v
			}
		}
		firing = append(firing, text)
	}
	return firing
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// replaceOnce replaces what must be there once.
func replaceOnce(t testing.TB, text, old, now string) string {
	t.Helper()
	if strings.Count(text, old) != 1 {
		t.Fatalf("%q is there %d times, want once", old, strings.Count(text, old))
	}
	return strings.Replace(text, old, now, 1)
}
