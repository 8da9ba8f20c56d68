package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
	"github.com/urfave/cli/v2"
)

// helpWidth is how wide a help text is at most: a terminal's columns.
const helpWidth = 80

// The groups of commands, in the order in which help and the manual have them.
const (
	groupRun    = "Run a balancer"
	groupLook   = "Look at a running balancer"
	groupChange = "Change a running balancer"
	groupOther  = "Other commands"
)

func groups() []string { return []string{groupRun, groupLook, groupChange, groupOther} }

// grouped gives commands their group.
func grouped(group string, commands ...*cli.Command) []*cli.Command {
	for _, c := range commands {
		c.Category = group
	}
	return commands
}

// prepare completes commands by what is the same for all of them: what they are called,
// and what they say to a command line that means nothing.
func prepare(parent string, commands []*cli.Command) {
	for _, c := range commands {
		if parent != "" { // else the cli package has it
			c.HelpName = parent + " " + c.Name
		}
		c.HideHelpCommand, c.OnUsageError, c.Before = true, flagError, arguments
		if len(c.Subcommands) == 0 {
			continue
		}
		prepare("snicket "+c.Name, c.Subcommands)
		c.Action = func(ctx *cli.Context) error {
			if !ctx.Args().Present() {
				return usage(ctx, "needs a command of its own")
			}
			return unknownCommand(c.Subcommands, c.Name, ctx.Args().First())
		}
	}
}

// printHelp prints the help of what data is: the program or a command.
func printHelp(w io.Writer, data any) error {
	var b strings.Builder
	switch of := data.(type) {
	case *cli.App:
		printProgramHelp(&b, of)
	case *cli.Command:
		printCommandHelp(&b, of)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printProgramHelp(w io.Writer, app *cli.App) {
	fmt.Fprintf(w, "snicket: %s\n\nusage: snicket COMMAND [ARGUMENT...] [FLAG...]\n", app.Usage)
	for _, group := range groups() {
		fmt.Fprintf(w, "\n%s\n", group)
		var rows [][2]string
		for _, c := range app.Commands {
			if c.Category == group && !c.Hidden {
				rows = append(rows, [2]string{c.Name, c.Usage})
			}
		}
		printDefinitions(w, rows)
	}
	fmt.Fprintln(w, "\nsnicket COMMAND --help tells more of each, and man snicket of all of them.\nExit status: 0 good, 1 failed, 2 wrong usage.")
}

func printCommandHelp(w io.Writer, c *cli.Command) {
	fmt.Fprintf(w, "%s\n\n", usageLine(c))
	fmt.Fprintln(w, wrap(asSentence(c.Usage), helpWidth))
	for paragraph := range strings.SplitSeq(c.Description, "\n") {
		if paragraph != "" {
			fmt.Fprintf(w, "\n%s\n", wrap(paragraph, helpWidth))
		}
	}
	if rows := subcommandRows(c); len(rows) > 0 {
		fmt.Fprintln(w)
		printDefinitions(w, rows)
	}
	if rows := flagRows(c); len(rows) > 0 {
		fmt.Fprintln(w, "\nFlags")
		printDefinitions(w, rows)
	}
}

func subcommandRows(c *cli.Command) (rows [][2]string) {
	for _, s := range c.Subcommands {
		rows = append(rows, [2]string{s.Name, s.Usage})
	}
	return rows
}

// flagRows are the flags of a command but --help: how they are written, and what for.
func flagRows(c *cli.Command) (rows [][2]string) {
	for _, f := range c.Flags {
		if f == cli.HelpFlag {
			continue
		}
		form, use, _ := strings.Cut(f.String(), "\t")
		rows = append(rows, [2]string{form, use})
	}
	return rows
}

// asSentence is a usage as the first sentence of a text.
func asSentence(usage string) string { return strings.ToUpper(usage[:1]) + usage[1:] + "." }

// printDefinitions prints names in a column and what they mean beside them.
func printDefinitions(w io.Writer, rows [][2]string) {
	const most = 24 // what is longer stands in a line of its own
	width := 0
	for _, row := range rows {
		if n := len(row[0]); n <= most {
			width = max(width, n)
		}
	}
	for _, row := range rows {
		indent := "\n" + strings.Repeat(" ", width+4)
		text := strings.ReplaceAll(wrap(row[1], helpWidth-width-4), "\n", indent)
		if len(row[0]) > most {
			fmt.Fprintf(w, "  %s%s%s\n", row[0], indent, text)
			continue
		}
		fmt.Fprintf(w, "  %-*s  %s\n", width, row[0], text)
	}
}

// wrap breaks a text into lines of a width, between words.
func wrap(text string, width int) string {
	var b strings.Builder
	at := 0
	for word := range strings.FieldsSeq(text) {
		n := ansi.StringWidth(word)
		switch {
		case at == 0:
		case at+1+n > width:
			b.WriteByte('\n')
			at = 0
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	return b.String()
}

// helpCommand stands in for the one of the cli package, which would show help of what is
// no command.
func helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Aliases: []string{"h"}, Usage: "show the commands, or how one of them is used", ArgsUsage: "[COMMAND...]",
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return printHelp(c.App.Writer, c.App)
			}
			among, parent := c.App.Commands, ""
			var found *cli.Command
			for _, word := range c.Args().Slice() {
				i := slices.IndexFunc(among, func(c *cli.Command) bool { return c.HasName(word) })
				if i < 0 {
					return unknownCommand(among, parent, word)
				}
				found = among[i]
				among, parent = found.Subcommands, fullName(found)
			}
			return printHelp(c.App.Writer, found)
		},
	}
}
