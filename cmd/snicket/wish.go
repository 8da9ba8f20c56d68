package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

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

const aboutWishes = "What an operator wishes wins over the file and over probes, and lives over reloads and upgrades, but not over a restart. "

// wishCommand is one of drain, ready and down.
func wishCommand(state, use string) *cli.Command {
	about := map[string]string{
		"drain": aboutWishes + "snicket ready takes it back.\n" +
			"--wait says how many sessions are left, and returns once there is none. They end when their clients or the backend end them, or by the idle timeout: snicket sessions --backend POOL/BACKEND shows them, snicket kill ends one at once. " +
			"Ctrl-C and --timeout end the waiting and not the drain.",
		"down": aboutWishes + "snicket ready takes it back. New sessions stay away, even when all backends are down; on_down of the pool says what becomes of those it has.\n" +
			"--wait says how many sessions are left, and returns once there is none. Ctrl-C and --timeout end the waiting alone.",
		"ready": "It takes back what snicket drain or down has wished, and no more: a backend whose probe fails stays down.\n" +
			"--wait says what keeps the backend from being ready, and returns once it is. Ctrl-C and --timeout end the waiting alone.",
	}
	wait := "wait until no session is left there"
	if state == "ready" {
		wait = "wait until it is ready"
	}
	return answering(&cli.Command{
		Name: state, Usage: use, ArgsUsage: "POOL/BACKEND", Description: about[state],
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "wait", DisableDefaultText: true, Usage: wait},
			&cli.DurationFlag{Name: "timeout", DefaultText: "never", Usage: "with --wait: give up after `DURATION`, with exit status 1"},
		},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) (b admin.Backend, err error) {
		pool, name, err := backendArgument(c)
		if err != nil {
			return b, err
		}
		if c.IsSet("timeout") && (!c.Bool("wait") || c.Duration("timeout") <= 0) {
			return b, usage(c, "takes --timeout with --wait, and a duration above 0")
		}
		b, err = balancer.SetState(ctx, pool, name, state)
		switch {
		case errors.Is(err, context.Canceled):
			return b, &hinted{errors.New("interrupted before there was an answer"), "snicket backends " + pool + " tells whether it has come to that"}
		case err != nil || !c.Bool("wait"):
			return b, err
		}
		w := waiting{state: state, balancer: balancer, out: c.App.ErrWriter}
		if drawable(w.out) {
			w.width = columnsOf(w.out)
		}
		if limit := c.Duration("timeout"); limit > 0 {
			var stop context.CancelFunc
			ctx, stop = context.WithTimeout(ctx, limit)
			defer stop()
		}
		return w.until(ctx, b)
	}, printBackend)
}

func printBackend(c *cli.Context, b admin.Backend) error {
	text := fmt.Sprintf("%s: %s, weight %s, %s", backendName(&b), b.State, weightText(&b), sessionsText(b.Sessions))
	if why := whyText(&b); why != "" {
		text += ": " + why
	}
	_, err := fmt.Fprintln(c.App.Writer, text)
	return err
}

// backendName is what commands call a backend.
func backendName(b *admin.Backend) string { return b.Pool + "/" + b.Name }

func weightCommand() *cli.Command {
	return answering(&cli.Command{
		Name: "weight", Usage: "give a backend another share of its pool's sessions", ArgsUsage: "POOL/BACKEND N|default",
		Description: "N is 0 to 256; a backend of weight 2 gets twice as many sessions as one of weight 1. With 0 it gets no new session and keeps those it has, as after snicket drain, but is still shown as ready. " +
			"default gives back the weight of the file.\n" + aboutWishes,
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) (b admin.Backend, err error) {
		pool, name, err := backendArgument(c)
		if err != nil {
			return b, err
		}
		text := c.Args().Get(1)
		if text == "default" {
			return balancer.ResetWeight(ctx, pool, name)
		}
		const most = 256 // as in the configuration
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > most {
			return b, usageHint("write a number from 0 to 256, or default for the one of the file", "weight: %q is no weight", text)
		}
		return balancer.SetWeight(ctx, pool, name, n)
	}, printBackend)
}
