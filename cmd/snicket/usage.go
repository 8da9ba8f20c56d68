package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/config"
)

// A usageError is a command line that means nothing.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

// usageHint is a usage error with what to write instead.
func usageHint(hint, format string, args ...any) error {
	return &hinted{&usageError{fmt.Errorf(format, args...)}, hint}
}

// usage is a usage error of a command, which hints at how it is used.
func usage(c *cli.Context, format string, args ...any) error {
	return usageHint(usageLine(c.Command)+"; --help tells more", fullName(c.Command)+" "+format, args...)
}

// fullName is a command's name with that of the one it belongs to.
func fullName(c *cli.Command) string { return strings.TrimPrefix(c.HelpName, "snicket ") }

// neededFlag is a flag without which its command cannot be used, which the command sees
// to: what the cli package says of one that is missing is a page.
type neededFlag struct{ *cli.StringFlag }

// form is how the flag is written.
func (f neededFlag) form() string {
	form, _, _ := strings.Cut(f.String(), "\t")
	return form
}

// usageLine is how a command is used, in one line.
func usageLine(c *cli.Command) string {
	line, further := "usage: "+c.HelpName, false
	for _, f := range c.Flags {
		if needed, ok := f.(neededFlag); ok {
			line += " " + needed.form()
		} else if f != cli.HelpFlag {
			further = true
		}
	}
	switch {
	case len(c.Subcommands) > 0:
		names := make([]string, len(c.Subcommands))
		for i, s := range c.Subcommands {
			names[i] = s.Name
		}
		line += " " + strings.Join(names, "|")
	case c.ArgsUsage != "":
		line += " " + c.ArgsUsage
	}
	if further {
		line += " [FLAG...]"
	}
	return line
}

// arguments refuses too few or too many words behind the flags of a command, by what its
// ArgsUsage says: NAME must be there, [NAME] may be, and of NAME... there may be more.
func arguments(c *cli.Context) error {
	names := strings.Fields(c.Command.ArgsUsage)
	if len(c.Command.Subcommands) > 0 {
		return nil // each has its own
	}
	if n := c.NArg(); n > len(names) && (len(names) == 0 || !strings.Contains(names[len(names)-1], "...")) {
		if len(names) == 0 {
			return usage(c, "takes no argument, got %q", c.Args().First())
		}
		return usage(c, "takes no more than %s, got %q as well", strings.Join(names, " "), c.Args().Get(len(names)))
	}
	for _, name := range names[min(c.NArg(), len(names)):] {
		if !strings.HasPrefix(name, "[") {
			return usage(c, "needs %s", strings.TrimSuffix(name, "..."))
		}
	}
	return nil
}

// unknownCommand is a word where a command should be.
func unknownCommand(among []*cli.Command, parent, word string) error {
	var names []string
	for _, c := range among {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	command := strings.TrimSpace("snicket " + parent)
	hint := command + " --help lists those there are"
	if text := familiar(word); text != "" && parent == "" {
		hint = text
	} else if likely := meant(word, names); len(likely) > 0 {
		hint = "did you mean " + command + " " + strings.Join(likely, ", or "+command+" ") + "?"
	}
	return usageHint(hint, "unknown command %q", strings.TrimSpace(parent+" "+word))
}

// meant are the names that somebody who wrote word may have meant, three at most.
func meant(word string, names []string) []string {
	const most = 3
	var likely []string
	if near := config.Nearest(word, names); len(word) > 1 && near != "" {
		likely = append(likely, near)
	}
	for _, name := range names {
		if len(word) > 1 && strings.HasPrefix(name, word) && !slices.Contains(likely, name) {
			likely = append(likely, name)
		}
	}
	return likely[:min(most, len(likely))]
}

// meantOr asks for the names that somebody who wrote word may have meant, or else is hint.
func meantOr(word string, names []string, hint string) string {
	if likely := meant(word, names); len(likely) > 0 {
		return "did you mean " + strings.Join(likely, ", or ") + "?"
	}
	return hint
}

// familiar says what does here what other programs call word.
func familiar(word string) string {
	names := map[string]string{
		"start": "run", "serve": "run", "validate": "check", "test": "check", "lint": "check", "configtest": "check",
		"info": "status", "pools": "status", "listeners": "status", "servers": "backends", "connections": "sessions", "conns": "sessions",
		"certificates": "certs", "disable": "drain", "maint": "drain", "enable": "ready", "undrain": "ready", "up": "ready",
		"log": "events", "logs": "events", "errors": "refused", "watch": "top", "stats": "top", "match": "explain", "restart": "upgrade",
	}
	if name := names[word]; name != "" {
		return "here it is snicket " + name
	}
	if word == "stop" || word == "quit" || word == "shutdown" {
		return "SIGTERM drains and ends it: systemctl stop snicket, or kill with the pid of snicket status"
	}
	return ""
}

// flagError tells in this program's words what the flag package says. Its errors are text
// alone.
func flagError(c *cli.Context, err error, isCommand bool) error {
	text := err.Error()
	if !isCommand {
		if m := regexp.MustCompile(`not defined: -+(.*)$`).FindStringSubmatch(text); m != nil {
			return usageHint("snicket help lists the commands; flags stand behind the command", "no flag %s", dashed(m[1]))
		}
		return usageHint("snicket help lists the commands", "%w", err)
	}
	if m := regexp.MustCompile(`^flag provided but not defined: -+(.*)$`).FindStringSubmatch(text); m != nil {
		hint := c.Command.HelpName + " --help lists its flags"
		if len(c.Command.Subcommands) > 0 {
			hint = usageLine(c.Command) + " [FLAG...]"
		}
		if likely := meant(m[1], flagNames(c.Command)); len(likely) > 0 {
			for i := range likely {
				likely[i] = dashed(likely[i])
			}
			hint = "did you mean " + strings.Join(likely, ", or ") + "?"
		}
		return usageHint(hint, "%s has no flag %s", fullName(c.Command), dashed(m[1]))
	}
	if m := regexp.MustCompile(`^flag needs an argument: -+(.*)$`).FindStringSubmatch(text); m != nil {
		return usageHint(flagHint(c.Command, m[1]), "%s needs a value", dashed(m[1]))
	}
	if m := regexp.MustCompile(`^invalid (?:boolean )?value "(.*)" for (?:flag )?-+([^:]*): `).FindStringSubmatch(text); m != nil {
		return usageHint(flagHint(c.Command, m[2]), "%s %q: no such value", dashed(m[2]), m[1])
	}
	return usage(c, "%w", err)
}

// dashed is a flag as it is written.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// flagNames are the flags of a command, without dashes.
func flagNames(c *cli.Command) []string {
	var names []string
	for _, f := range c.Flags {
		names = append(names, f.Names()...)
	}
	return names
}

// flagHint says what a flag of a command takes.
func flagHint(c *cli.Command, name string) string {
	for _, f := range c.Flags {
		if !slices.Contains(f.Names(), name) {
			continue
		}
		switch f.(type) {
		case *cli.DurationFlag:
			return "write a number and a unit, such as 30s or 5m"
		case *cli.IntFlag:
			return "write a number"
		case *cli.BoolFlag:
			return "it takes no value"
		}
		form, use, _ := strings.Cut(f.String(), "\t")
		return form + ": " + use
	}
	return c.HelpName + " --help lists its flags"
}
