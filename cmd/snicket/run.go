package main

import (
	"errors"
	"io/fs"
	"log"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/server"
	"github.com/snicketlb/snicket/pkg/server/demo"
	"github.com/snicketlb/snicket/pkg/upgrade"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name: "run", Usage: "balance, in the foreground",
		Description: "It stays in the foreground, writes its log to standard error and the access log to standard output, and tells systemd when it is ready.\n" +
			"SIGHUP reloads, SIGUSR1 opens the access log anew, SIGUSR2 upgrades. SIGTERM and SIGINT drain and end it, a second one ends it at once.",
		Flags: []cli.Flag{configFlag()},
		Action: func(c *cli.Context) error {
			path := c.String("config")
			from, err := upgrade.Inherited()
			if err != nil {
				return err
			}
			s, err := server.New(path, server.Options{
				Stdout: c.App.Writer, Stderr: c.App.ErrWriter, Version: buildVersion(),
				AdminSocket: admin.DefaultSocket(os.Getenv, os.Geteuid()),
				Upgrade:     successor(path), From: from,
			})
			if err != nil {
				server.Refuse(from, err)
				return configError(c, path, err)
			}
			// What net/http has to say of a backend goes to package log, and would stand
			// among the lines of the log in a form of its own.
			log.SetFlags(0)
			log.SetOutput(slog.NewLogLogger(s.Log().Handler(), slog.LevelWarn).Writer())
			signals, stop := listenForSignals()
			defer stop()
			makeRoomFor(s.Loops())
			defer keepMemory()()
			return configError(c, path, s.Run(c.Context, signals))
		},
	}
}

// successor is how the process is started that follows this one: the program that lies
// where this one's did.
func successor(config string) *server.Upgrade {
	path, err := os.Executable()
	if err != nil { // without /proc
		return nil
	}
	return &server.Upgrade{Path: path, Args: []string{"run", "-c", config}, Stdout: os.Stdout, Stderr: os.Stderr}
}

func demoCommand() *cli.Command {
	return &cli.Command{
		Name: "demo", Usage: "show all three modes on loopback; needs no file",
		Description: "It makes a CA, backends and a balancer with one passthrough, one terminated and one re-encrypted host, tries all three, and prints curl lines to try. Ctrl-C ends it.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "once", DisableDefaultText: true, Usage: "end after the self-test"}},
		Action: func(c *cli.Context) error {
			signals, stop := listenForSignals()
			defer stop()
			err := demo.Run(c.Context, demo.Options{
				Stdout: c.App.Writer, Stderr: c.App.ErrWriter,
				Once: c.Bool("once"), Signals: signals, Started: makeRoomFor,
			})
			if path, ok := errors.AsType[*fs.PathError](err); ok && strings.HasPrefix(path.Path, os.TempDir()) {
				return &hinted{err, "it needs a directory for temporary files: set TMPDIR to one that this user can write into"}
			}
			return err
		},
	}
}

// endingGrace is how long a process that was told to end at once may still take, for
// the last lines of its logs.
const endingGrace = 2 * time.Second

// listenForSignals begins to take the signals a server obeys, and to survive a
// reader of the logs that goes away. Two of those that end it are passed on, to drain
// and to end at once. Behind the second stands the system: after endingGrace, or at a
// third, the process is gone whatever it waits for.
func listenForSignals() (signals <-chan os.Signal, stop func()) {
	caught, passed, done := make(chan os.Signal, 8), make(chan os.Signal, 8), make(chan struct{})
	signal.Notify(caught, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGINT)
	signal.Ignore(syscall.SIGPIPE)
	go func() { // ends by stop
		endings := 0
		var late <-chan time.Time
		for {
			select {
			case sig := <-caught:
				if sig == syscall.SIGTERM || sig == syscall.SIGINT {
					endings++
				}
				if endings == 2 {
					signal.Reset(syscall.SIGTERM, syscall.SIGINT)
					late = time.After(endingGrace)
				}
				select {
				case passed <- sig:
				default: // it is behind by eight reloads, which are as good as one
				}
			case <-late:
				os.Exit(exitFailed)
			case <-done:
				return
			}
		}
	}()
	return passed, func() { signal.Stop(caught); close(done) }
}

// makeRoomFor gives the scheduler a processor for each event loop, which holds its
// thread, and at least two for all other goroutines.
func makeRoomFor(loops int) {
	runtime.GOMAXPROCS(loops + max(2, runtime.GOMAXPROCS(0)))
}
