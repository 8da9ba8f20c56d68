package main

import (
	"context"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

func certsCommand() *cli.Command {
	return answering(&cli.Command{Name: "certs", Usage: "show the certificates for clients, the first to expire first"},
		func(ctx context.Context, _ *cli.Context, balancer *client.Client) ([]admin.Certificate, error) {
			list, err := balancer.Certificates(ctx)
			slices.SortStableFunc(list, func(a, b admin.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
			return list, err
		}, printCertificates)
}

func printCertificates(c *cli.Context, list []admin.Certificate) error {
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
}

// leftText is the time that a certificate has left.
func leftText(d time.Duration) string {
	if d <= 0 {
		return "expired"
	}
	return lasting(d)
}
