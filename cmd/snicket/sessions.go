package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

func sessionsCommand() *cli.Command {
	return answering(&cli.Command{
		Name: "sessions", Usage: "show the sessions of a running balancer",
		Description: "Filters add up. IN is what the client has sent, OUT what it was sent; IDLE is since the last byte either way. The JSON form says how many matched, and has those of --limit.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "route", Usage: "those of one `ROUTE`"},
			&cli.StringFlag{Name: "backend", Usage: "those of `POOL/BACKEND`, or of all backends of a POOL"},
			&cli.StringFlag{Name: "client", Usage: "those of clients at `ADDRESS`, or in a network such as 192.0.2.0/24"},
			&cli.DurationFlag{Name: "idle-over", DefaultText: "any", Usage: "those without a byte for longer than `DURATION`"},
			&cli.StringFlag{Name: "sort", Usage: "by this `WORD`: " + strings.Join(admin.SessionOrders(), ", "), Value: admin.SessionOrders()[0]},
			&cli.IntFlag{Name: "limit", Usage: "at most `N`", Value: 1000},
		},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) (admin.Sessions, error) {
		if !slices.Contains(admin.SessionOrders(), c.String("sort")) {
			return admin.Sessions{}, usageHint("write one of "+strings.Join(admin.SessionOrders(), ", "), "--sort %q: no such order", c.String("sort"))
		}
		if c.Int("limit") < 1 {
			return admin.Sessions{}, usageHint("write a number from 1", "--limit %d", c.Int("limit"))
		}
		pool, backend, _ := strings.Cut(c.String("backend"), "/")
		found, err := balancer.Sessions(ctx, client.SessionOptions{
			Route: c.String("route"), Pool: pool, Backend: backend, Client: c.String("client"),
			IdleOver: c.Duration("idle-over"), Sort: c.String("sort"), Limit: c.Int("limit"),
		})
		if err == nil && found.Matched == 0 {
			err = unknownFilter(ctx, balancer, c.String("route"), pool, backend)
		}
		return found, err
	}, printSessions)
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
		names := make([]string, len(routes))
		for i := range routes {
			names[i] = routes[i].Name
		}
		if !slices.Contains(names, route) {
			return &hinted{fmt.Errorf("no route %q", route), meantOr(route, names, "snicket routes lists them")}
		}
	}
	if pool == "" {
		return nil
	}
	all, err := balancer.Backends(ctx, "")
	if err != nil {
		return err
	}
	var pools, names []string
	for i := range all {
		pools = append(pools, all[i].Pool)
		if all[i].Pool == pool {
			names = append(names, all[i].Name)
		}
	}
	switch {
	case len(names) == 0:
		return &hinted{fmt.Errorf("no backend in a pool %q", pool), meantOr(pool, slices.Compact(pools), "snicket status lists the pools")}
	case backend != "" && !slices.Contains(names, backend):
		return &hinted{fmt.Errorf("pool %s has no backend %q", pool, backend), meantOr(backend, names, "snicket backends "+pool+" lists them")}
	}
	return nil
}

func printSessions(c *cli.Context, found admin.Sessions) error {
	g := newGrid(c, "SESSION", "CLIENT", "SNI", "ROUTE", "BACKEND", "PHASE", "AGE", "IDLE", "IN", "OUT")
	g.spare = []string{"PHASE", "ROUTE", "IN", "AGE", "OUT", "SNI"}
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
	if err := g.flush(); err != nil {
		return err
	}
	if left := found.Matched - len(found.Sessions); left > 0 {
		fmt.Fprintf(c.App.ErrWriter, "%d more: --limit shows them\n", left)
	}
	return nil
}

func killCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "kill", Usage: "end sessions at once; both sides are reset", ArgsUsage: "SESSION...",
		Description: "SESSION is an id, as snicket sessions and the access log have it. Their outcome is killed.",
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		for _, id := range c.Args().Slice() {
			if err := balancer.Kill(ctx, id); err != nil {
				return err
			}
			fmt.Fprintf(c.App.Writer, "%s: killed\n", id)
		}
		return nil
	})
}
