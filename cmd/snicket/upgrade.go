package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

func upgradeCommand() *cli.Command {
	return answering(&cli.Command{
		Name: "upgrade", Usage: "have a new process go on with the sessions of a running balancer",
		Description: "Listeners and live sessions move without a client noticing; those whose TLS ends here finish in the old process. What cannot be done changes nothing.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "binary", Usage: "start the program `FILE`; default: what now lies where the running one did"},
		},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) (done admin.Upgraded, err error) {
		binary := c.String("binary")
		if binary != "" {
			if binary, err = filepath.Abs(binary); err != nil {
				return done, err
			}
		}
		return balancer.Upgrade(ctx, binary)
	}, printUpgraded)
}

func printUpgraded(c *cli.Context, done admin.Upgraded) error {
	fmt.Fprintf(c.App.Writer, "version %s runs as process %d\n%s moved, within %.1f ms\n", done.Version, done.PID, sessionsText(done.Moved), done.PauseMS)
	if done.Stay > 0 {
		fmt.Fprintf(c.App.Writer, "to end in the process before, as it cannot be moved: %s\n", sessionsText(done.Stay))
	}
	return nil
}
