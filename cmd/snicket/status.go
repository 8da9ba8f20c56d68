package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

func statusCommand() *cli.Command {
	return answering(&cli.Command{
		Name: "status", Usage: "show how a running balancer stands",
		Description: "Ready is a process that listens, is not about to end, and has a backend that is not known to be down in each pool that a route uses. " +
			"The exit status is 0 whether it is ready or not; GET /readyz is for those who probe it.",
	},
		plainly((*client.Client).Status), printStatus)
}

func printStatus(c *cli.Context, s admin.Status) error {
	out := c.App.Writer
	ready := "ready"
	if !s.Ready {
		ready = "not ready: " + strings.Join(s.NotReady, "; ")
	}
	fmt.Fprintf(out, "snicket %s, pid %d: %s for %s, %s\n", s.Version, s.PID, s.State, since(&s.Started), ready)
	fmt.Fprintf(out, "configuration %s, generation %d for %s\n", s.Config, s.Generation, since(&s.Loaded))
	if s.ReloadFailed != "" {
		fmt.Fprintf(out, "the latest reload failed: %s\n", s.ReloadFailed)
	}
	fmt.Fprintf(out, "sessions %d of at most %s, unfinished hellos %d, routes %d, loops %d\n", s.Sessions, mostText(&s), s.Hellos, s.Routes, s.Loops)
	if s.Paused {
		fmt.Fprintln(out, "accepting pauses: max_connections is reached")
	}
	for i := range s.Faults {
		fmt.Fprintln(out, faultText(&s.Faults[i]))
	}
	fmt.Fprintln(out)
	g := newGrid(c, "LISTENER", "ADDRESS", "SESSIONS")
	for _, l := range s.Listeners {
		g.row(l.Name, l.Address, strconv.Itoa(l.Sessions))
	}
	if err := g.flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	g = newGrid(c, "POOL", "READY", "DOWN", "DRAINING", "EJECTED", "SESSIONS", "QUEUE", "NOTE")
	g.spare = []string{"QUEUE", "EJECTED"}
	for _, p := range s.Pools {
		note := ""
		if p.Panic {
			note = "in panic: all are tried"
		}
		g.row(p.Name, fmt.Sprintf("%d of %d", p.Ready, p.Backends), strconv.Itoa(p.Down), strconv.Itoa(p.Draining),
			strconv.Itoa(p.Ejected), strconv.Itoa(p.Sessions), strconv.Itoa(p.Queue), note)
	}
	return g.flush()
}

// mostText is how many sessions there may be, and why not more.
func mostText(s *admin.Status) string {
	if s.MaxConnections < s.MaxConnectionsDeclared {
		return fmt.Sprintf("%d (max_connections %d: LimitNOFILE allows no more)", s.MaxConnections, s.MaxConnectionsDeclared)
	}
	return strconv.Itoa(s.MaxConnections)
}

// faultText is what the log says of it, and since when.
func faultText(f *admin.Fault) string {
	what := f.What
	switch what {
	case "certificate":
		what = "certificate is not taken"
	case "host":
		what = "host is no longer covered"
	}
	return fmt.Sprintf("%s, for %s: %s; %s", what, since(&f.Since), sentence(f.Why), f.So)
}

func backendsCommand() *cli.Command {
	return answering(&cli.Command{
		Name: "backends", Usage: "show the backends of a running balancer, and why one is not ready", ArgsUsage: "[POOL]",
		Description: "FOR is how long it has been in its state, TOTAL how many sessions it was picked for. WEIGHT is what is in force, with the one of the file in brackets where an operator wishes another, and the share that its agent asks for behind a ×.",
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) ([]admin.Backend, error) {
		pool := c.Args().First()
		list, err := balancer.Backends(ctx, pool)
		if err == nil && len(list) == 0 && pool != "" {
			err = unknownFilter(ctx, balancer, "", pool, "")
		}
		return list, err
	}, printBackends)
}

func printBackends(c *cli.Context, list []admin.Backend) error {
	headings := []string{"BACKEND", "ADDRESS", "STATE", "FOR", "SESSIONS", "TOTAL", "WEIGHT", "WHY"}
	if !slices.ContainsFunc(list, func(b admin.Backend) bool { return b.Address != "" && b.Address != b.Name }) {
		headings = slices.Delete(headings, 1, 2) // their names say it
	}
	g := newGrid(c, headings...)
	g.spare = []string{"TOTAL", "ADDRESS", "WEIGHT", "FOR"}
	for i := range list {
		b := &list[i]
		cells := []string{backendName(b), b.Address, b.State, since(b.Since), strconv.Itoa(b.Sessions), strconv.FormatUint(b.Total, 10), weightText(b), whyText(b)}
		if len(headings) < len(cells) {
			cells = slices.Delete(cells, 1, 2)
		}
		g.row(cells...)
	}
	return g.flush()
}

// weightText is a backend's weight, with its agent's share where that is not all.
func weightText(b *admin.Backend) string {
	text := strconv.Itoa(b.Weight)
	if b.Share != 100 {
		text += fmt.Sprintf("×%d%%", b.Share)
	}
	if b.WeightWish != nil {
		text += fmt.Sprintf(" (%d)", b.WeightDeclared)
	}
	return text
}

// whyText tells all that keeps sessions from a backend, or changes their share.
func whyText(b *admin.Backend) string {
	var parts []string
	if b.Why != "" {
		parts = append(parts, sentence(b.Why))
	}
	if b.Wish != nil && b.State == "down" && b.Wish.Value == "drain" {
		parts = append(parts, "drained by "+b.Wish.By)
	}
	if b.Wish != nil && b.Probe == "down" && b.Wish.Value == "down" {
		parts = append(parts, "its probe fails as well")
	}
	if w := b.WeightWish; w != nil {
		parts = append(parts, fmt.Sprintf("weight by %s, for %s", w.By, since(&w.Since)))
	}
	return strings.Join(parts, "; ")
}

func routesCommand() *cli.Command {
	return answering(&cli.Command{
		Name: "routes", Usage: "show the routes of a running balancer, and what they have served",
		Description: "SESSIONS are those of now. OK counts those that have ended well, OTHERS the rest by outcome, since the process was started.",
	},
		plainly((*client.Client).Routes), printRoutes)
}

func printRoutes(c *cli.Context, list []admin.Route) error {
	g := newGrid(c, "ROUTE", "MODE", "POOL", "SESSIONS", "OK", "OTHERS", "IN", "OUT", "HOSTS")
	g.spare = []string{"IN", "OUT", "MODE", "POOL"}
	for i := range list {
		r := &list[i]
		ok, others, in, out := "", "", "", ""
		if r.Ended != nil {
			ok, others = strconv.FormatUint(r.Ended["ok"], 10), othersText(r.Ended)
			in, out = bytesText(r.BytesIn), bytesText(r.BytesOut)
		}
		g.row(r.Name, r.Mode, r.Pool, strconv.Itoa(r.Sessions), ok, others, in, out, few(r.Hosts))
	}
	return g.flush()
}
