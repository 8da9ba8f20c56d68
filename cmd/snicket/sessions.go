package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

// printLine prints an answer for programs in one line.
func printLine(c *cli.Context, v any) error { return json.NewEncoder(c.App.Writer).Encode(v) }

func sessionsCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "sessions", Usage: "show the sessions of a running balancer",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "route", Usage: "those of one `ROUTE`"},
			&cli.StringFlag{Name: "backend", Usage: "those of `POOL/BACKEND`, or of all of a POOL"},
			&cli.StringFlag{Name: "client", Usage: "those of clients in `IP or CIDR`"},
			&cli.DurationFlag{Name: "idle-over", DefaultText: "any", Usage: "those without a byte for longer than `DURATION`"},
			&cli.StringFlag{Name: "sort", Usage: "by this `WORD`: " + strings.Join(admin.SessionOrders(), ", "), Value: admin.SessionOrders()[0]},
			&cli.IntFlag{Name: "limit", Usage: "at most `N`", Value: 1000},
			jsonFlag(),
		},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		if err := noArguments(c); err != nil {
			return err
		}
		if !slices.Contains(admin.SessionOrders(), c.String("sort")) {
			return usageHint("write one of "+strings.Join(admin.SessionOrders(), ", "), "--sort %q", c.String("sort"))
		}
		pool, backend, _ := strings.Cut(c.String("backend"), "/")
		found, err := balancer.Sessions(ctx, client.SessionOptions{
			Route: c.String("route"), Pool: pool, Backend: backend, Client: c.String("client"),
			IdleOver: c.Duration("idle-over"), Sort: c.String("sort"), Limit: c.Int("limit"),
		})
		if err == nil && found.Matched == 0 {
			err = unknownFilter(ctx, balancer, c.String("route"), pool, backend)
		}
		switch {
		case err != nil:
			return err
		case c.Bool("json"):
			return printJSON(c, found)
		}
		return printSessions(c, &found)
	})
}

// unknownFilter is an error if there is no such route, pool or backend: that none of its
// sessions are left must not be what a slip of the pen looks like. Those that a reload
// removed are unknown as well, once their last session has ended.
func unknownFilter(ctx context.Context, balancer *client.Client, route, pool, backend string) error {
	if route != "" {
		routes, err := balancer.Routes(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(routes, func(r admin.Route) bool { return r.Name == route }) {
			return &hinted{fmt.Errorf("no route %q", route), "snicket routes lists them"}
		}
	}
	if pool == "" {
		return nil
	}
	backends, err := balancer.Backends(ctx, pool)
	switch {
	case err != nil:
		return err
	case len(backends) == 0:
		return &hinted{fmt.Errorf("no backend in a pool %q", pool), "snicket status lists the pools"}
	case backend != "" && !slices.ContainsFunc(backends, func(b admin.Backend) bool { return b.Name == backend }):
		return &hinted{fmt.Errorf("pool %s has no backend %q", pool, backend), "snicket backends " + pool + " lists them"}
	}
	return nil
}

func printSessions(c *cli.Context, found *admin.Sessions) error {
	g := newGrid(c, "SESSION", "CLIENT", "SNI", "ROUTE", "BACKEND", "PHASE", "AGE", "IDLE", "IN", "OUT")
	for i := range found.Sessions {
		s := &found.Sessions[i]
		backend := ""
		if s.Backend != "" {
			backend = s.Pool + "/" + s.Backend
		}
		g.row(s.ID, s.Client, printable(s.SNI), s.Route, backend, s.Phase,
			lasting(time.Duration(s.AgeMS)*time.Millisecond), lasting(time.Duration(s.IdleMS)*time.Millisecond),
			bytesText(s.BytesIn), bytesText(s.BytesOut))
	}
	if err := g.w.Flush(); err != nil {
		return err
	}
	if left := found.Matched - len(found.Sessions); left > 0 {
		fmt.Fprintf(c.App.ErrWriter, "%d more: --limit shows them\n", left)
	}
	return nil
}

func killCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "kill", Usage: "end a session at once; both sides are reset", ArgsUsage: "SESSION...",
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		if !c.Args().Present() {
			return usageHint("snicket sessions lists them", "kill takes a SESSION, got none")
		}
		for _, id := range c.Args().Slice() {
			if err := balancer.Kill(ctx, id); err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%s: killed\n", id)
		}
		return nil
	})
}

// backendArgument takes POOL/BACKEND apart. Names of pools hold no "/".
func backendArgument(c *cli.Context) (pool, backend string, err error) {
	name := c.Args().First()
	pool, backend, ok := strings.Cut(name, "/")
	if !ok || pool == "" || backend == "" {
		return "", "", usageHint("snicket backends lists them as POOL/BACKEND", "%s: %q is no POOL/BACKEND", c.Command.Name, name)
	}
	return pool, backend, nil
}

// wishCommand is one of drain, ready and down.
func wishCommand(state, use string) *cli.Command {
	return asking(&cli.Command{
		Name: state, Usage: use, ArgsUsage: "POOL/BACKEND",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "wait", DisableDefaultText: true, Usage: "wait until no session is left there, for ready until it is"},
			jsonFlag(),
		},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		if c.Args().Len() != 1 {
			return usage("%s takes one POOL/BACKEND, got %d", state, c.Args().Len())
		}
		pool, name, err := backendArgument(c)
		if err != nil {
			return err
		}
		b, err := balancer.SetState(ctx, pool, name, state)
		if err == nil && c.Bool("wait") {
			b, err = waitForBackend(ctx, balancer, b, func(b *admin.Backend) bool {
				return state == "ready" && b.State == "ready" || state != "ready" && b.Sessions == 0
			})
		}
		if err != nil {
			return err
		}
		return printBackend(c, &b)
	})
}

// waitEvery is how often it is looked whether what is waited for has come.
const waitEvery = 500 * time.Millisecond

// waitForBackend waits until a backend is as it should be, or no more.
func waitForBackend(ctx context.Context, balancer *client.Client, b admin.Backend, done func(*admin.Backend) bool) (admin.Backend, error) {
	look := time.NewTicker(waitEvery)
	defer look.Stop()
	for !done(&b) {
		select {
		case <-ctx.Done():
			return b, ctx.Err()
		case <-look.C:
		}
		list, err := balancer.Backends(ctx, b.Pool)
		if err != nil {
			return b, err
		}
		i := slices.IndexFunc(list, func(x admin.Backend) bool { return x.Name == b.Name })
		if i < 0 {
			return b, fmt.Errorf("%s/%s is no more", b.Pool, b.Name)
		}
		b = list[i]
	}
	return b, nil
}

func printBackend(c *cli.Context, b *admin.Backend) error {
	if c.Bool("json") {
		return printJSON(c, b)
	}
	sessions := "1 session"
	if b.Sessions != 1 {
		sessions = fmt.Sprintf("%d sessions", b.Sessions)
	}
	text := fmt.Sprintf("%s/%s: %s, weight %s, %s", b.Pool, b.Name, b.State, weightText(b), sessions)
	if why := whyText(b); why != "" {
		text += ": " + why
	}
	_, err := fmt.Fprintln(c.App.Writer, text)
	return err
}

func weightCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "weight", Usage: "give a backend another weight", ArgsUsage: "POOL/BACKEND N or default",
		Flags: []cli.Flag{jsonFlag()},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		const how = "write a number from 0 to 256, or default for the declared one"
		if c.Args().Len() != 2 {
			return usageHint(how, "weight takes POOL/BACKEND and a weight, got %d words", c.Args().Len())
		}
		pool, name, err := backendArgument(c)
		if err != nil {
			return err
		}
		var b admin.Backend
		if text := c.Args().Get(1); text == "default" {
			b, err = balancer.ResetWeight(ctx, pool, name)
		} else {
			n, bad := strconv.Atoi(text)
			if bad != nil {
				return usageHint(how, "%q is no weight", text)
			}
			b, err = balancer.SetWeight(ctx, pool, name, n)
		}
		if err != nil {
			return err
		}
		return printBackend(c, &b)
	})
}

func reloadCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "reload", Usage: "put the configuration file of a running balancer into force, and say what that changed",
		Flags: []cli.Flag{jsonFlag()},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		if err := noArguments(c); err != nil {
			return err
		}
		done, err := balancer.Reload(ctx)
		switch {
		case err != nil:
			return err
		case c.Bool("json"):
			return printJSON(c, done)
		}
		for _, w := range done.Warnings {
			fmt.Fprintln(c.App.ErrWriter, w)
		}
		for _, text := range done.Changes {
			fmt.Fprintln(c.App.Writer, text)
		}
		if len(done.Changes) == 0 {
			fmt.Fprintln(c.App.Writer, "nothing has changed")
		}
		_, err = fmt.Fprintf(c.App.Writer, "generation %d is in force\n", done.Generation)
		return err
	})
}

func configCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "config", Usage: "show the configuration in force, or how its file differs",
		ArgsUsage: "show or diff", Flags: []cli.Flag{jsonFlag()},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		word := c.Args().First()
		switch {
		case c.Args().Len() != 1:
			return usage("config takes one word, show or diff, got %d", c.Args().Len())
		case word == "show":
			text, err := balancer.Config(ctx)
			fmt.Fprint(c.App.Writer, text)
			return err
		case word != "diff":
			return usageHint("write snicket config show, or snicket config diff", "config %q", word)
		}
		d, err := balancer.Difference(ctx)
		switch {
		case err != nil:
			return err
		case c.Bool("json"):
			return printJSON(c, d)
		}
		for _, w := range d.Warnings {
			fmt.Fprintln(c.App.ErrWriter, w)
		}
		if len(d.Changes) == 0 && d.Diff == "" {
			_, err := fmt.Fprintln(c.App.Writer, "the file is what is in force")
			return err
		}
		for _, text := range d.Changes {
			fmt.Fprintln(c.App.Writer, text)
		}
		_, err = fmt.Fprint(c.App.Writer, d.Diff)
		return err
	})
}
