package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

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
	return answering(&cli.Command{
		Name: state, Usage: use, ArgsUsage: "POOL/BACKEND",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "wait", DisableDefaultText: true, Usage: "wait until no session is left there, for ready until it is"},
		},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) (b admin.Backend, err error) {
		pool, name, err := backendArgument(c)
		if err != nil {
			return b, err
		}
		b, err = balancer.SetState(ctx, pool, name, state)
		if err == nil && c.Bool("wait") {
			b, err = waitForBackend(ctx, balancer, b, func(b *admin.Backend) bool {
				return state == "ready" && b.State == "ready" || state != "ready" && b.Sessions == 0
			})
		}
		return b, err
	}, printBackend)
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

func printBackend(c *cli.Context, b admin.Backend) error {
	sessions := "1 session"
	if b.Sessions != 1 {
		sessions = fmt.Sprintf("%d sessions", b.Sessions)
	}
	text := fmt.Sprintf("%s/%s: %s, weight %s, %s", b.Pool, b.Name, b.State, weightText(&b), sessions)
	if why := whyText(&b); why != "" {
		text += ": " + why
	}
	_, err := fmt.Fprintln(c.App.Writer, text)
	return err
}

func weightCommand() *cli.Command {
	return answering(&cli.Command{
		Name: "weight", Usage: "give a backend another share of its pool's sessions", ArgsUsage: "POOL/BACKEND N|default",
		Description: "N is 0 to 256; a backend of weight 2 gets twice as many sessions as one of weight 1. With 0 it gets no new session and keeps those it has, as after snicket drain, but is still shown as ready. " +
			"default gives back the weight of the file.",
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) (b admin.Backend, err error) {
		const how = "write a number from 0 to 256, or default for the declared one"
		pool, name, err := backendArgument(c)
		if err != nil {
			return b, err
		}
		text := c.Args().Get(1)
		if text == "default" {
			return balancer.ResetWeight(ctx, pool, name)
		}
		n, err := strconv.Atoi(text)
		if err != nil {
			return b, usageHint(how, "%q is no weight", text)
		}
		return balancer.SetWeight(ctx, pool, name, n)
	}, printBackend)
}
