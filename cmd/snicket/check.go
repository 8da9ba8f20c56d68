package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
	"github.com/snicketlb/snicket/pkg/proxy"
	"github.com/snicketlb/snicket/pkg/server"
	"github.com/snicketlb/snicket/sni"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "say everything that is wrong with a configuration",
		Description: "Each line is FILE:LINE: what is wrong: what to do. Warnings alone are no failure: the exit status is 0.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: "effective", DisableDefaultText: true, Usage: "print the configuration with every default written out"},
			&cli.BoolFlag{Name: "probe", DisableDefaultText: true, Usage: "run each backend's probe once, and fail if one does"},
		},
		Action: func(c *cli.Context) error {
			if c.Bool("effective") && c.Bool("probe") {
				return usageHint("run check twice", "--effective and --probe")
			}
			path := c.String("config")
			cfg, problems := server.Check(path)
			if problems.Err() != nil {
				return configError(c, path, &server.ConfigError{Problems: problems})
			}
			for _, w := range problems {
				fmt.Fprintln(c.App.ErrWriter, w)
			}
			if c.Bool("probe") {
				return probe(c, path)
			}
			if c.Bool("effective") {
				_, err := c.App.Writer.Write(cfg.Effective())
				return err
			}
			_, err := fmt.Fprintf(c.App.Writer, "%s: good: listeners %d, routes %d, pools %d\n",
				path, len(cfg.Listeners), len(cfg.Routes), len(cfg.Pools))
			return err
		},
	}
}

// probe prints what the probe of each backend says.
func probe(c *cli.Context, path string) error {
	verdicts, err := server.Probe(c.Context, path, nil)
	if err != nil {
		return configError(c, path, err)
	}
	g := newList(c.App.Writer)
	probed, down, failed := 0, 0, 0
	for _, v := range verdicts {
		if v.Source != "" {
			failed++
			g.row(v.Pool, "discovery failed", fmt.Sprintf("%s: %v", v.Source, v.Err))
			continue
		}
		state, why := "ready", "after "+v.Took.Round(100*time.Microsecond).String()
		switch {
		case v.Err != nil:
			down++
			state, why = "down", v.Err.Error()
		case !v.Probed:
			state, why = "not probed", "enabled = false"
		case v.Draining:
			state = "draining"
		}
		if v.Err != nil || v.Probed {
			probed++
		}
		if v.Err == nil && v.Agent != "" {
			why += "; agent says " + v.Agent
		}
		if len(v.Warnings) > 0 {
			why += "; warning: " + strings.Join(v.Warnings, "; ")
		}
		name := v.Pool + "/" + v.Backend
		if v.Address != "" && !strings.HasSuffix(name, v.Address) {
			name += " (" + v.Address + ")"
		}
		g.row(name, state, why)
	}
	if err := g.flush(); err != nil {
		return err
	}
	const hint = "each line above says why, in the words of the probe"
	switch {
	case failed > 0 && down > 0:
		return &hinted{fmt.Errorf("%d of %d backends down, discovery of %d pools failed", down, probed, failed), hint}
	case failed > 0:
		return &hinted{fmt.Errorf("discovery of %d pools failed", failed), hint}
	case down > 0:
		return &hinted{fmt.Errorf("%d of %d backends down", down, probed), hint}
	}
	return nil
}

func explainCommand() *cli.Command {
	return &cli.Command{
		Name: "explain", Usage: "say which route a hello takes, and why the others lost",
		ArgsUsage:   "NAME",
		Description: "NAME is a host; - stands for a hello without one. The file says, or with --running what a balancer has in force. The exit status is 0 whatever the answer.",
		Flags: []cli.Flag{
			configFlag(),
			&cli.StringSliceFlag{Name: "alpn", Usage: "the hello offers `PROTOCOL`; may be repeated"},
			&cli.StringFlag{Name: "from", Usage: "the client has address `IP`"},
			&cli.StringFlag{Name: "listener", Usage: "it came by listener `NAME`; default: the first"},
			&cli.BoolFlag{Name: "running", DisableDefaultText: true, Usage: "by what a running balancer has in force, not by the file"},
			&cli.StringFlag{Name: "socket", Usage: "the same, of the balancer whose admin socket is `PATH`"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			q, err := query(c)
			if err != nil {
				return err
			}
			if c.Bool("running") || c.String("socket") != "" {
				return ask(c, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
					e, err := balancer.Explain(ctx, admin.Question{Listener: q.Listener, Name: q.Name, ALPN: q.ALPN, From: q.From})
					if err != nil {
						return err
					}
					return printExplanation(c, q, &e)
				})
			}
			path := c.String("config")
			e, err := server.Explain(path, q)
			if none, ok := errors.AsType[*server.NoListenerError](err); ok {
				return &hinted{err, "there is " + strings.Join(none.Declared, ", ")}
			}
			if err != nil {
				return orRunning(c, configError(c, path, err))
			}
			view := e.View()
			return printExplanation(c, q, &view)
		},
	}
}

// orRunning adds to a default file that is not there that a balancer can be asked instead.
func orRunning(c *cli.Context, err error) error {
	if h, ok := errors.AsType[*hinted](err); ok && !c.IsSet("config") && errors.Is(unreadable(c.String("config")), fs.ErrNotExist) {
		return &hinted{h.error, "--running asks a running balancer; -c FILE names another file"}
	}
	return err
}

// query reads the hello to explain from the command line.
func query(c *cli.Context) (server.Query, error) {
	q := server.Query{ALPN: c.StringSlice("alpn"), Listener: c.String("listener")}
	if name := c.Args().First(); name != "-" {
		q.Name = strings.ToLower(strings.TrimSuffix(name, "."))
		if err := sni.CheckName(q.Name); err != nil {
			return q, usageHint("write a host name, such as www.example.com, or - for a hello without one", "%w", err)
		}
	}
	if from := c.String("from"); from != "" {
		ip, err := netip.ParseAddr(from)
		if err != nil {
			return q, usageHint("write one address, such as 192.0.2.7 or 2001:db8::7", "--from %q: no IP address", from)
		}
		q.From = ip.Unmap()
	}
	return q, nil
}

func printExplanation(c *cli.Context, q server.Query, e *admin.Explanation) error {
	if c.Bool("json") {
		return printJSON(c, e)
	}
	name := q.Name
	if name == "" {
		name = "a hello without a name"
	}
	w := c.App.Writer
	if e.Pattern == "" {
		fmt.Fprintf(w, "%s matches no host on listener %s\n", name, e.Listener)
		fmt.Fprintf(w, "  looked at the routes there: %s\n", list(e.Looked))
		for _, o := range e.Others {
			fmt.Fprintf(w, "  listener %s has %q for it: --listener %s\n", o.Listener, o.Pattern, o.Listener)
		}
	} else {
		fmt.Fprintf(w, "%s matches %q on listener %s\n", name, e.Pattern, e.Listener)
	}
	g := newList(w)
	g.indent = "  "
	for _, v := range e.Verdicts {
		sign := "lost"
		if v.Won {
			sign = "won"
		}
		g.row(sign, v.Route, v.Why)
	}
	if err := g.flush(); err != nil {
		return err
	}
	if e.Outcome != proxy.OK.String() {
		_, err := fmt.Fprintf(c.App.Writer, "outcome: %s\n", e.Outcome)
		return err
	}
	_, err := fmt.Fprintf(c.App.Writer, "outcome: %s to pool %s\n", e.Mode, e.Pool)
	return err
}
