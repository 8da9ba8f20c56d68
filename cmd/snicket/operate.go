package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
	"github.com/snicketlb/snicket/pkg/config"
)

// socketVariable is what stands for --socket in the environment.
const socketVariable = "SNICKET_SOCKET"

// socketFlag is --socket PATH.
func socketFlag() cli.Flag {
	return &cli.StringFlag{Name: "socket", Usage: "ask the balancer whose admin socket is `PATH`; default: that of -c FILE, else $SNICKET_SOCKET, else the usual place"}
}

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", DisableDefaultText: true, Usage: "print the answer as JSON"}
}

// operatorCommands are those that talk to a running balancer.
func operatorCommands() []*cli.Command {
	return append(
		grouped(groupLook, statusCommand(), backendsCommand(), routesCommand(), sessionsCommand(), certsCommand(), refusedCommand(),
			eventsCommand(), configCommand(), topCommand()),
		grouped(groupChange, wishCommand("drain", "keep new sessions from a backend, and leave it those it has"),
			wishCommand("ready", "take back a drain or a down"), wishCommand("down", "treat a backend as if it were down"),
			weightCommand(), killCommand(), reloadCommand(), upgradeCommand())...)
}

// asking is an operator's command, which has --socket and -c beside its own flags. Its
// action is given a client that ends with it.
func asking(command *cli.Command, action func(context.Context, *cli.Context, *client.Client) error) *cli.Command {
	command.Flags = append(command.Flags, socketFlag(), &cli.StringFlag{
		Name: "config", Aliases: []string{"c"}, Usage: "ask the balancer whose admin socket is where `FILE` says",
		Value: defaultConfig, DefaultText: defaultConfig,
	})
	command.Action = func(c *cli.Context) error { return ask(c, action) }
	return command
}

// answering is asking for one answer, which is printed for people, or with --json as it
// came.
func answering[T any](command *cli.Command, question func(context.Context, *cli.Context, *client.Client) (T, error), show func(*cli.Context, T) error) *cli.Command {
	command.Flags = append(command.Flags, jsonFlag())
	return asking(command, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		v, err := question(ctx, c, balancer)
		switch {
		case err != nil:
			return err
		case c.Bool("json"):
			return printJSON(c, v)
		}
		return show(c, v)
	})
}

// plainly is a question that is the same whatever the command line says.
func plainly[T any](question func(*client.Client, context.Context) (T, error)) func(context.Context, *cli.Context, *client.Client) (T, error) {
	return func(ctx context.Context, _ *cli.Context, balancer *client.Client) (T, error) {
		return question(balancer, ctx)
	}
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

// where says which balancer is meant.
type where struct {
	socket, file string // of --socket and -c; empty: there is none
	// compared says that file is one to compare with, which may be of any balancer.
	compared bool
}

// path is that of the balancer's socket: by --socket, by the file that -c names, by the
// variable, else where it would be by default. What is said on the command line comes
// before the environment. A file to compare with comes last, and only if somebody is
// where it says.
func (w where) path() (string, error) {
	if w.socket != "" {
		return w.socket, nil
	}
	if path := os.Getenv(socketVariable); path != "" && (w.compared || w.file == "") {
		return path, nil
	}
	file := cmp.Or(w.file, defaultConfig)
	if w.compared && w.file != "" {
		if path, err := socketIn(file); err == nil && exists(path) {
			return path, nil
		}
		file = defaultConfig
	}
	if path, err := socketIn(file); path != "" || err != nil {
		return path, err
	}
	own := admin.DefaultSocket(os.Getenv, os.Geteuid())
	if own == "" || !exists(own) && exists(systemSocket) {
		return systemSocket, nil
	}
	return own, nil
}

// socketPath is the path of the socket of the balancer that a command line means.
func socketPath(c *cli.Context) (string, error) {
	w := where{socket: c.String("socket"), compared: c.Command.Name == "diff"}
	if c.IsSet("config") {
		w.file = c.String("config")
		if err := unreadable(w.file); w.socket == "" && err != nil {
			return "", configError(c, w.file, err)
		}
	}
	return w.path()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// socketIn is the socket that a file names, whatever else is wrong with it; empty for none,
// and if it is not to be read by this user.
func socketIn(file string) (string, error) {
	if unreadable(file) != nil {
		return "", nil
	}
	cfg, _ := config.Load(file)
	if cfg.Admin.Socket == config.AdminOff {
		return "", &hinted{fmt.Errorf("%s: the balancer has no admin socket", file), `drop socket = "off" from [admin]`}
	}
	return cfg.Admin.Socket, nil
}

// explainRefusal adds to an error of the client what to do about it.
func explainRefusal(c *cli.Context, err error) error {
	if refused, ok := errors.AsType[*admin.Error](err); ok {
		for _, p := range refused.Problems {
			fmt.Fprintln(c.App.ErrWriter, p)
		}
		if refused.Status == http.StatusBadRequest { // so was the command line
			err = &usageError{err}
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
	case errors.Is(err, client.ErrNoAnswer):
		return &hinted{err, "a process listens there, and hangs, is stopped or has no time: ps and journalctl -u snicket tell more"}
	case errors.Is(err, fs.ErrPermission):
		return &hinted{fmt.Errorf("%s: permission denied", away.Socket), "mode and group in [admin] say who may; ask as one who does"}
	}
	return &hinted{err, elsewhere}
}

// printJSON prints an answer for programs.
func printJSON(c *cli.Context, v any) error {
	return admin.WriteJSON(c.App.Writer, v, "  ")
}

// printLine prints an answer for programs in one line.
func printLine(c *cli.Context, v any) error { return admin.WriteJSON(c.App.Writer, v, "") }
