// Command snicket is a Layer-4 balancer that routes TLS connections by the server
// name in their ClientHello.
//
// This package turns words into calls: what the commands do lies in pkg/server and
// below.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/server"
)

// Exit statuses.
const (
	exitFailed = 1
	exitUsage  = 2
)

// version is set by the linker, which sets variables alone: -X main.version=v1.2.3.
var version string

func main() { os.Exit(run(os.Args, os.Stdin, os.Stdout, os.Stderr)) }

// run is the whole command, and returns its exit status.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp(stdin, stdout, stderr)
	var unhelped error // the cli package has no place for it
	cli.HelpPrinter = func(w io.Writer, _ string, data any) { unhelped = printHelp(w, data) }
	err := cmp.Or(app.Run(permute(app, args)), unhelped)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "snicket: error: %v\n", err)
	if h, ok := errors.AsType[*hinted](err); ok {
		fmt.Fprintf(stderr, "snicket: hint: %s\n", h.hint)
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:        "snicket",
		Usage:       "route TLS connections by server name",
		Version:     buildVersion(),
		HideVersion: true, // it is a command; --version and -v are flags below
		Reader:      stdin, Writer: stdout, ErrWriter: stderr,
		Commands: slices.Concat(
			grouped(groupRun, demoCommand(), runCommand(), checkCommand(), explainCommand(), helloCommand()),
			operatorCommands(),
			grouped(groupOther, echKeygenCommand(), versionCommand(), completionCommand(), manCommand(), completeCommand(), helpCommand()),
		),
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "version", Aliases: []string{"v"}, Usage: "print the version", DisableDefaultText: true},
			cli.HelpFlag,
		},
		ExitErrHandler: func(*cli.Context, error) {},
		OnUsageError:   flagError,
	}
	prepare("", app.Commands)
	app.Action = func(c *cli.Context) error {
		if name := c.Args().First(); name != "" {
			return unknownCommand(app.Commands, "", name)
		}
		if c.Bool("version") {
			return printVersion(c)
		}
		return printHelp(c.App.Writer, c.App)
	}
	return app
}

// hinted is an error with what to do about it.
type hinted struct {
	error
	hint string
}

func (e *hinted) Unwrap() error { return e.error }

// defaultConfig is the file that is read unless another is named.
const defaultConfig = "/etc/snicket/snicket.toml"

// configFlag is -c FILE.
func configFlag() *cli.StringFlag {
	return &cli.StringFlag{
		Name: "config", Aliases: []string{"c"}, Usage: "read the configuration in `FILE`",
		Value: defaultConfig, DefaultText: defaultConfig,
	}
}

// configError turns a configuration that cannot be run into what the terminal shows:
// every problem, then one line of error.
func configError(c *cli.Context, path string, err error) error {
	switch reason := unreadable(path); {
	case errors.Is(reason, fs.ErrNotExist):
		return &hinted{fmt.Errorf("%s: no such file", path), "write one, or name another by -c FILE; snicket demo needs none"}
	case errors.Is(reason, fs.ErrPermission):
		return &hinted{fmt.Errorf("%s: permission denied", path), "let this user read the file and enter its directories, or run snicket as one who may"}
	}
	bad, ok := errors.AsType[*server.ConfigError](err)
	if !ok {
		return err
	}
	n := 0
	for _, p := range bad.Problems {
		fmt.Fprintln(c.App.ErrWriter, p)
		if !p.Warning {
			n++
		}
	}
	const hint = "each line above names the place and what to do there"
	if n == 1 {
		return &hinted{fmt.Errorf("%s: 1 problem", path), hint}
	}
	return &hinted{fmt.Errorf("%s: %d problems", path, n), hint}
}

// unreadable is why a file cannot be opened.
func unreadable(path string) error {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	f.Close()
	return nil
}

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print the version",
		Action: printVersion,
	}
}

func printVersion(c *cli.Context) error {
	_, err := fmt.Fprintln(c.App.Writer, "snicket "+buildVersion())
	return err
}

// buildVersion is what the linker was told, or else what the go command knows.
func buildVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
