package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

func refusedCommand() *cli.Command {
	return answering(&cli.Command{
		Name: "refused", Usage: "show the latest sessions that got no backend, and why",
		Description: "The latest 256, the newest first. The outcomes are those of the access log; snicket explain tells what the configuration makes of a name.",
	},
		plainly((*client.Client).Refused), printRefused)
}

func printRefused(c *cli.Context, list []admin.Refusal) error {
	g := newGrid(c, "TIME", "CLIENT", "LISTENER", "SNI", "OUTCOME", "JA4", "ERROR")
	g.spare = []string{"JA4", "LISTENER"}
	for i := range list {
		r := &list[i]
		g.row(r.Time.Local().Format(time.DateTime), r.Client, r.Listener, printable(r.SNI), r.Outcome, r.JA4, sentence(r.Error))
	}
	return g.flush()
}

func eventsCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "events", Usage: "show what happened to a running balancer: backends, reloads, operators",
		Description: "They are the latest 1024 lines of its log, of the level info and above, also where [log] sets a level that leaves them out there.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "follow", Aliases: []string{"f"}, DisableDefaultText: true, Usage: "go on with what happens, till Ctrl-C"},
			&cli.BoolFlag{Name: "json", DisableDefaultText: true, Usage: "print one JSON object for each"},
		},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
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
