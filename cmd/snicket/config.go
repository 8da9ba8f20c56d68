package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

func reloadCommand() *cli.Command {
	return answering(&cli.Command{
		Name: "reload", Usage: "put the configuration file of a running balancer into force, and say what that changed",
	}, plainly((*client.Client).Reload), printReloaded)
}

func printReloaded(c *cli.Context, done admin.Reloaded) error {
	for _, w := range done.Warnings {
		fmt.Fprintln(c.App.ErrWriter, w)
	}
	for _, text := range done.Changes {
		fmt.Fprintln(c.App.Writer, text)
	}
	if len(done.Changes) == 0 {
		fmt.Fprintln(c.App.Writer, "nothing has changed")
	}
	_, err := fmt.Fprintf(c.App.Writer, "generation %d is in force\n", done.Generation)
	return err
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
