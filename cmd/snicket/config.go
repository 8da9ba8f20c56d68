package main

import (
	"context"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
	"github.com/snicketlb/snicket/pkg/server"
)

func reloadCommand() *cli.Command {
	return answering(&cli.Command{
		Name: "reload", Usage: "put the configuration file of a running balancer into force, and say what that changed",
		Description: "All or nothing: with a file that cannot be used the old configuration runs on. The file is the one that the balancer was started with; snicket config diff tells beforehand what would change.",
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
	show := asking(&cli.Command{
		Name: "show", Usage: "show the configuration in force, with every default written out",
		Description: "Host names and sources of backends stand as they were written: snicket backends has what they have become.",
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		text, err := balancer.Config(ctx)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(c.App.Writer, text)
		return err
	})
	diff := answering(&cli.Command{
		Name: "diff", Usage: "show what a reload would change, or how another file differs from what is in force",
		Description: "Without -c it is the file that the running balancer reads, with what a reload would do to routes, pools and their sessions. " +
			"With -c FILE it is that file, whether the balancer reads it or not; if not, the balancer is found by --socket, $SNICKET_SOCKET, or where FILE says.\n" +
			"The lines that begin with + or - are of both configurations with every default written out: - is in force, + is in the file. " +
			"A difference is no failure: the exit status is 0.",
	}, difference, printDifference)
	for _, f := range diff.Flags {
		if file, ok := f.(*cli.StringFlag); ok && file.Name == "config" {
			file.Usage, file.DefaultText = "compare with `FILE`", "what the balancer reads"
		}
	}
	return &cli.Command{
		Name: "config", Usage: "show the configuration in force, or how a file differs from it",
		Subcommands: []*cli.Command{show, diff},
	}
}

// difference is between what is in force and the file that -c names. The balancer itself
// compares its own, and knows what a reload would do.
func difference(ctx context.Context, c *cli.Context, balancer *client.Client) (d admin.Difference, err error) {
	if !c.IsSet("config") {
		return balancer.Difference(ctx)
	}
	path := c.String("config")
	status, err := balancer.Status(ctx)
	if err != nil {
		return d, err
	}
	if sameFile(path, status.Config) {
		return balancer.Difference(ctx)
	}
	running, err := balancer.Config(ctx)
	if err != nil {
		return d, err
	}
	fmt.Fprintf(c.App.ErrWriter, "%s is not what the balancer reads: that is %s, and a reload puts that one into force\n", path, status.Config)
	d, err = server.Difference(path, running)
	return d, configError(c, path, err)
}

// sameFile reports whether two paths lead to one file.
func sameFile(a, b string) bool {
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}

func printDifference(c *cli.Context, d admin.Difference) error {
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
	_, err := fmt.Fprint(c.App.Writer, d.Diff)
	return err
}
