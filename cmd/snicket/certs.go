package main

import (
	"context"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

// certsCommand shows what is in force, and beside it what is not taken, which the
// balancer has among its faults.
func certsCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "certs", Usage: "show the certificates for clients, the first to expire first",
		Description: "Files that are not taken come last, with why. As JSON they are among the faults of snicket status.",
		Flags:       []cli.Flag{jsonFlag()},
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		list, err := balancer.Certificates(ctx)
		if err != nil {
			return err
		}
		slices.SortStableFunc(list, func(a, b admin.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
		if c.Bool("json") {
			return printJSON(c, list)
		}
		status, err := balancer.Status(ctx)
		if err != nil {
			return err
		}
		return printCertificates(c, list, status.Faults)
	})
}

func printCertificates(c *cli.Context, list []admin.Certificate, faults []admin.Fault) error {
	untaken := map[string]string{}
	for i := range faults {
		if f := &faults[i]; f.What == "certificate" {
			untaken[f.File] = "not taken, for " + since(&f.Since) + ": " + sentence(f.Why) + "; " + f.So
		}
	}
	g := newGrid(c, "NAMES", "EXPIRES", "LEFT", "KEY", "FROM", "ROUTES", "NOTE")
	g.spare = []string{"KEY", "EXPIRES", "ROUTES"}
	held := map[string]bool{}
	for i := range list {
		v := &list[i]
		held[v.File] = true
		from, note := v.File, untaken[v.File]
		if v.ACME {
			from = "acme"
		}
		if v.Superseded && note == "" {
			note = "superseded"
		}
		g.row(sentence(few(v.Names)), v.NotAfter.Local().Format(time.DateOnly), leftText(time.Until(v.NotAfter)), v.Key, from, few(v.Routes), note)
	}
	for i := range faults {
		if f := &faults[i]; f.What == "certificate" && !held[f.File] {
			g.row("", "", "", "", f.File, "", untaken[f.File])
		}
	}
	return g.flush()
}

// leftText is the time that a certificate has left.
func leftText(d time.Duration) string {
	if d <= 0 {
		return "expired"
	}
	return lasting(d)
}
