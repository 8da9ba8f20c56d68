package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// permute moves the flags of a command in front of its arguments, so that
// "explain NAME --alpn h2" means what it says: the flag parser stops at the first
// word that is no flag.
func permute(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	command, _, rest := resolve(app, args[1:])
	if command == nil || command.SkipFlagParsing {
		return args
	}
	behind := len(args) - len(rest) // the names of commands
	flags, words := args[:behind:behind], []string(nil)
	for ; len(rest) > 0; rest = rest[1:] {
		word := rest[0]
		switch {
		case word == "--":
			return append(append(append(flags, "--"), words...), rest[1:]...)
		case word == "-" || !strings.HasPrefix(word, "-") || word[1] >= '0' && word[1] <= '9':
			words = append(words, word)
		case takesValue(command, word) && len(rest) > 1:
			flags, rest = append(flags, word, rest[1]), rest[1:]
		default:
			flags = append(flags, word)
		}
	}
	if len(words) == 0 {
		return flags
	}
	return append(append(flags, "--"), words...)
}

// resolve follows the names of commands at the beginning of words: it returns the last
// command named, nil for none, those that could be named next, and the other words.
func resolve(app *cli.App, words []string) (command *cli.Command, among []*cli.Command, rest []string) {
	among = app.Commands
	for ; len(words) > 0; words = words[1:] {
		i := slices.IndexFunc(among, func(c *cli.Command) bool { return c.HasName(words[0]) })
		if i < 0 {
			break
		}
		command, among = among[i], among[i].Subcommands
	}
	return command, among, words
}

// takesValue reports whether the word after flag belongs to it.
func takesValue(c *cli.Command, flag string) bool {
	name := strings.TrimLeft(flag, "-")
	for _, f := range c.Flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}
