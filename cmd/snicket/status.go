package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

func statusCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "status", Usage: "show how a running balancer stands",
		Flags: []cli.Flag{jsonFlag()},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		if err := noArguments(c); err != nil {
			return err
		}
		s, err := balancer.Status(ctx)
		switch {
		case err != nil:
			return err
		case c.Bool("json"):
			return printJSON(c, s)
		}
		return printStatus(c, &s)
	})
}

func printStatus(c *cli.Context, s *admin.Status) error {
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
	fmt.Fprintf(out, "sessions %d, unfinished hellos %d, routes %d, loops %d\n", s.Sessions, s.Hellos, s.Routes, s.Loops)
	if s.Paused {
		fmt.Fprintln(out, "accepting pauses: max_connections is reached")
	}
	fmt.Fprintln(out)
	g := newGrid(c, "LISTENER", "ADDRESS", "SESSIONS")
	for _, l := range s.Listeners {
		g.row(l.Name, l.Address, strconv.Itoa(l.Sessions))
	}
	if err := g.w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out)
	g = newGrid(c, "POOL", "READY", "DOWN", "DRAINING", "EJECTED", "SESSIONS", "QUEUE", "NOTE")
	for _, p := range s.Pools {
		note := ""
		if p.Panic {
			note = "in panic: all are tried"
		}
		g.row(p.Name, fmt.Sprintf("%d of %d", p.Ready, p.Backends), strconv.Itoa(p.Down), strconv.Itoa(p.Draining),
			strconv.Itoa(p.Ejected), strconv.Itoa(p.Sessions), strconv.Itoa(p.Queue), note)
	}
	return g.w.Flush()
}

func backendsCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "backends", Usage: "show the backends of a running balancer, and why one is not ready",
		ArgsUsage: "[POOL]", Flags: []cli.Flag{jsonFlag()},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		if c.Args().Len() > 1 {
			return usage("backends takes one POOL, got %d", c.Args().Len())
		}
		pool := c.Args().First()
		list, err := balancer.Backends(ctx, pool)
		switch {
		case err != nil:
			return err
		case len(list) == 0 && pool != "":
			return &hinted{fmt.Errorf("no backend in a pool %q", pool), "snicket status lists the pools"}
		case c.Bool("json"):
			return printJSON(c, list)
		}
		return printBackends(c, list)
	})
}

func printBackends(c *cli.Context, list []admin.Backend) error {
	g := newGrid(c, "BACKEND", "STATE", "FOR", "SESSIONS", "TOTAL", "WEIGHT", "WHY")
	for i := range list {
		b := &list[i]
		name := b.Pool + "/" + b.Name
		if b.Address != "" && !strings.HasSuffix(b.Name, b.Address) {
			name += " (" + b.Address + ")"
		}
		g.row(name, b.State, since(b.Since), strconv.Itoa(b.Sessions), strconv.FormatUint(b.Total, 10), weightText(b), whyText(b))
	}
	return g.w.Flush()
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

// sentence is printable for sentences.
func sentence(text string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

func routesCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "routes", Usage: "show the routes of a running balancer, and what they have served",
		Flags: []cli.Flag{jsonFlag()},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		if err := noArguments(c); err != nil {
			return err
		}
		list, err := balancer.Routes(ctx)
		switch {
		case err != nil:
			return err
		case c.Bool("json"):
			return printJSON(c, list)
		}
		g := newGrid(c, "ROUTE", "MODE", "POOL", "SESSIONS", "OK", "OTHERS", "IN", "OUT", "HOSTS")
		for i := range list {
			r := &list[i]
			ok, others, in, out := "", "", "", ""
			if r.Ended != nil {
				ok, others = strconv.FormatUint(r.Ended["ok"], 10), othersText(r.Ended)
				in, out = bytesText(r.BytesIn), bytesText(r.BytesOut)
			}
			g.row(r.Name, r.Mode, r.Pool, strconv.Itoa(r.Sessions), ok, others, in, out, few(r.Hosts))
		}
		return g.w.Flush()
	})
}

// othersText are the outcomes beside ok, the most frequent first.
func othersText(ended map[string]uint64) string {
	words := slices.DeleteFunc(slices.Sorted(maps.Keys(ended)), func(word string) bool { return word == "ok" })
	slices.SortStableFunc(words, func(a, b string) int { return int(ended[b]) - int(ended[a]) })
	for i, word := range words {
		words[i] = fmt.Sprintf("%d %s", ended[word], word)
	}
	return strings.Join(words, ", ")
}

// few is at most three names.
func few(names []string) string {
	const most = 3
	if n := len(names); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}

func certsCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "certs", Usage: "show the certificates for clients, the first to expire first",
		Flags: []cli.Flag{jsonFlag()},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		if err := noArguments(c); err != nil {
			return err
		}
		list, err := balancer.Certificates(ctx)
		if err != nil {
			return err
		}
		slices.SortStableFunc(list, func(a, b admin.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
		if c.Bool("json") {
			return printJSON(c, list)
		}
		g := newGrid(c, "NAMES", "EXPIRES", "LEFT", "KEY", "FROM", "ROUTES", "NOTE")
		for i := range list {
			v := &list[i]
			from, note := v.File, ""
			if v.ACME {
				from = "acme"
			}
			if v.Superseded {
				note = "superseded"
			}
			g.row(sentence(few(v.Names)), v.NotAfter.Local().Format(time.DateOnly), leftText(time.Until(v.NotAfter)), v.Key, from, few(v.Routes), note)
		}
		return g.w.Flush()
	})
}

// leftText is the time that a certificate has left.
func leftText(d time.Duration) string {
	if d <= 0 {
		return "expired"
	}
	return lasting(d)
}

func refusedCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "refused", Usage: "show the latest sessions that got no backend, and why",
		Flags: []cli.Flag{jsonFlag()},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		if err := noArguments(c); err != nil {
			return err
		}
		list, err := balancer.Refused(ctx)
		switch {
		case err != nil:
			return err
		case c.Bool("json"):
			return printJSON(c, list)
		}
		g := newGrid(c, "TIME", "CLIENT", "LISTENER", "SNI", "OUTCOME", "JA4", "ERROR")
		for i := range list {
			r := &list[i]
			g.row(r.Time.Local().Format(time.DateTime), r.Client, r.Listener, printable(r.SNI), r.Outcome, r.JA4, sentence(r.Error))
		}
		return g.w.Flush()
	})
}

func eventsCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "events", Usage: "show what happened to a running balancer: backends, reloads, operators",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, DisableDefaultText: true, Usage: "go on with what happens, till Ctrl-C"},
			&cli.BoolFlag{Name: "json", DisableDefaultText: true, Usage: "print one JSON object for each"},
		},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		if err := noArguments(c); err != nil {
			return err
		}
		show := func(e admin.Event) error { return printEvent(c, &e) }
		if c.Bool("follow") {
			if err := balancer.Follow(ctx, 0, show); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil // the user has seen enough
		}
		list, err := balancer.Events(ctx, 0)
		for _, e := range list {
			if err := show(e); err != nil {
				return err
			}
		}
		return err
	})
}

func printEvent(c *cli.Context, e *admin.Event) error {
	if c.Bool("json") {
		return printLine(c, e)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %-5s  %s", e.Time.Local().Format(time.DateTime), e.Level, e.Message)
	for _, a := range e.Attrs {
		fmt.Fprintf(&b, "  %s=%s", a.Key, printable(a.Value))
	}
	_, err := fmt.Fprintln(c.App.Writer, b.String())
	return err
}
