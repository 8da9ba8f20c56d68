package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
	"github.com/snicketlb/snicket/pkg/config"
)

// socketVariable is what stands for --socket in the environment.
const socketVariable = "SNICKET_SOCKET"

// socketFlag is --socket PATH.
func socketFlag() cli.Flag {
	return &cli.StringFlag{Name: "socket", Usage: "ask the balancer whose admin socket is `PATH`; default: that of -c FILE, $SNICKET_SOCKET, or the usual place"}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", DisableDefaultText: true, Usage: "print the answer as JSON"}
}

// operatorCommands are those that talk to a running balancer.
func operatorCommands() []*cli.Command {
	return []*cli.Command{
		statusCommand(), backendsCommand(), routesCommand(), sessionsCommand(), certsCommand(), refusedCommand(), eventsCommand(), configCommand(),
		wishCommand("drain", "keep new sessions from a backend"), wishCommand("ready", "take back what keeps sessions from a backend"),
		wishCommand("down", "treat a backend as if it were down"), weightCommand(), killCommand(), reloadCommand(), upgradeCommand(),
		topCommand(),
	}
}

// asking is an operator's command, which has --socket and -c beside its own flags. Its
// action is given a client that ends with it.
func asking(command *cli.Command, action func(context.Context, *cli.Context, *client.Client) error) *cli.Command {
	file := configFlag()
	file.Usage = "ask the balancer that has its admin socket where `FILE` says; what it reloads is its own file"
	command.Flags = append(command.Flags, socketFlag(), file)
	command.Action = func(c *cli.Context) error { return ask(c, action) }
	return command
}

func ask(c *cli.Context, action func(context.Context, *cli.Context, *client.Client) error) error {
	path, err := socketPath(c)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
	defer stop()
	balancer := client.New(path)
	defer balancer.Close()
	err = action(ctx, c, balancer)
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted")
	}
	return explainRefusal(c, err)
}

// systemSocket is where the socket of a service is, whoever asks.
const systemSocket = "/run/snicket/admin.sock"

// socketPath finds the balancer: by --socket, by the file that -c names, by the variable,
// else where it would have its socket by default. What is said on the command line comes
// before the environment.
func socketPath(c *cli.Context) (string, error) {
	if path := c.String("socket"); path != "" {
		return path, nil
	}
	if path := os.Getenv(socketVariable); path != "" && !c.IsSet("config") {
		return path, nil
	}
	path := c.String("config")
	if err := unreadable(path); err == nil {
		// Whatever else is wrong with it, or not to be read by this user.
		cfg, _ := config.Load(path)
		switch cfg.Admin.Socket {
		case "":
		case config.AdminOff:
			return "", &hinted{fmt.Errorf("%s: the balancer has no admin socket", path), `drop socket = "off" from [admin]`}
		default:
			return cfg.Admin.Socket, nil
		}
	} else if c.IsSet("config") {
		return "", configError(c, path, err)
	}
	own := admin.DefaultSocket(os.Getenv, os.Geteuid())
	if _, err := os.Stat(own); own == "" || err != nil {
		if _, err := os.Stat(systemSocket); err == nil || own == "" {
			return systemSocket, nil
		}
	}
	return own, nil
}

// explainRefusal adds to an error of the client what to do about it.
func explainRefusal(c *cli.Context, err error) error {
	if refused, ok := errors.AsType[*admin.Error](err); ok {
		for _, p := range refused.Problems {
			fmt.Fprintln(c.App.ErrWriter, p)
		}
		if refused.Hint == "" {
			return err
		}
		return &hinted{err, refused.Hint}
	}
	away, ok := errors.AsType[*client.UnreachableError](err)
	if !ok {
		return err
	}
	const elsewhere = "--socket PATH, -c FILE or $SNICKET_SOCKET name another place"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &hinted{fmt.Errorf("no balancer answers: there is no %s", away.Socket), "is it running? " + elsewhere}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &hinted{fmt.Errorf("no balancer answers at %s", away.Socket), "it has ended, or never was one; " + elsewhere}
	case errors.Is(err, fs.ErrPermission):
		return &hinted{fmt.Errorf("%s: permission denied", away.Socket), "mode and group in [admin] say who may; ask as one who does"}
	}
	return &hinted{err, elsewhere}
}

// printJSON prints an answer for programs.
func printJSON(c *cli.Context, v any) error {
	out := json.NewEncoder(c.App.Writer)
	out.SetIndent("", "  ")
	return out.Encode(v)
}

// grid prints rows of cells in columns, below their headings.
type grid struct {
	w *tabwriter.Writer
}

func newGrid(c *cli.Context, headings ...string) grid {
	g := grid{tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)}
	g.row(headings...)
	return g
}

// row prints one row. What is empty is shown as "-".
func (g grid) row(cells ...string) {
	for i, cell := range cells {
		if cell == "" {
			cells[i] = "-"
		}
	}
	fmt.Fprintln(g.w, strings.Join(cells, "\t"))
}

// printable is text of the network for a terminal: quoted unless it is harmless.
func printable(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !strconv.IsPrint(r) || r == ' ' }) {
		return strconv.Quote(text)
	}
	return text
}

// lasting is a duration as short as it can be told: two units at most.
func lasting(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
}

// since is how long ago that was; empty for never.
func since(t *time.Time) string {
	if t == nil {
		return ""
	}
	return lasting(max(time.Since(*t), 0))
}

// bytesText is a number of bytes with three digits or so.
func bytesText[T int64 | uint64](n T) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/unit, 0
	for ; v >= unit && i < 4; i++ {
		v /= unit
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTP"[i])
}
