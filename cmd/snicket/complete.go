package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

// completionPatience is how long somebody who has pressed a key waits for a balancer.
const completionPatience = time.Second

// completeCommand is what a shell runs at the press of a key: it prints what the last of
// the words may become, a line each, and nothing where that is a file. So completions
// know each command and flag of the version installed, and what the balancer has.
func completeCommand() *cli.Command {
	return &cli.Command{
		Name: "complete", Hidden: true, Usage: "print what a word may become, for the scripts of snicket completion",
		ArgsUsage: "bash|zsh|fish [WORD...]", SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			words := c.Args().Tail()
			if len(words) == 0 {
				words = []string{""}
			}
			for _, x := range (&completion{app: c.App, ctx: c.Context}).of(words) {
				if line := x.line(c.Args().First()); line != "" {
					fmt.Fprintln(c.App.Writer, line)
				}
			}
			return nil
		},
	}
}

// candidate is what a word may become.
type candidate struct{ word, about string }

// line is a candidate as a shell wants it; empty for a name that it cannot be given: bash,
// unlike the others, quotes nothing.
func (x candidate) line(shell string) string {
	about := sentence(x.about)
	switch {
	case sentence(x.word) != x.word, shell == "bash" && strings.ContainsAny(x.word, " \"'`\\$&|;<>(){}*?!#~^"):
		return ""
	case shell == "zsh" && about != "":
		return strings.ReplaceAll(x.word, ":", `\:`) + ":" + about
	case shell == "zsh":
		return strings.ReplaceAll(x.word, ":", `\:`)
	case shell == "fish" && about != "":
		return x.word + "\t" + about
	}
	return x.word
}

// completion completes a command line.
type completion struct {
	app   *cli.App
	ctx   context.Context //nolint:containedctx // of one question
	where where
}

// of returns what the last of words, which may be empty, may become.
func (k *completion) of(words []string) []candidate {
	last := len(words) - 1
	command, among, rest := resolve(k.app, words[:last])
	var found []candidate
	switch {
	case len(among) > 0 && len(rest) == 0:
		found = commandNames(among)
	case command != nil:
		arguments, awaited := k.read(command, rest)
		switch {
		case awaited != nil:
			found = k.values(awaited.Names()[0])
		case strings.HasPrefix(words[last], "-"):
			found = flagCandidates(command)
		default:
			found = k.argument(command, arguments)
		}
	}
	return slices.DeleteFunc(found, func(x candidate) bool { return !strings.HasPrefix(x.word, words[last]) })
}

// read goes through the words behind a command: it notes where its balancer is, and
// returns the arguments and the flag whose value is to come, if that is so.
func (k *completion) read(command *cli.Command, words []string) (arguments []string, awaited cli.Flag) {
	for _, word := range words {
		switch {
		case awaited != nil:
			k.note(awaited.Names()[0], word)
			awaited = nil
		case !strings.HasPrefix(word, "-") || word == "-":
			arguments = append(arguments, word)
		default:
			name, value, given := strings.Cut(strings.TrimLeft(word, "-"), "=")
			if given {
				k.note(name, value)
			} else if takesValue(command, word) {
				awaited = command.Flags[slices.IndexFunc(command.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })]
			}
		}
	}
	return arguments, awaited
}

func (k *completion) note(flag, value string) {
	switch flag {
	case "socket":
		k.where.socket = value
	case "config", "c":
		k.where.file = value
	}
}

func commandNames(among []*cli.Command) (found []candidate) {
	for _, c := range among {
		if !c.Hidden {
			found = append(found, candidate{c.Name, c.Usage})
		}
	}
	return found
}

func flagCandidates(c *cli.Command) (found []candidate) {
	for _, f := range append(slices.Clone(c.Flags), cli.HelpFlag) {
		_, use, _ := strings.Cut(f.String(), "\t")
		for _, name := range f.Names() {
			if len(name) > 1 {
				found = append(found, candidate{dashed(name), use})
			}
		}
	}
	return found
}

// argument is what may stand behind the arguments there are.
func (k *completion) argument(c *cli.Command, before []string) []candidate {
	forms := strings.Fields(c.ArgsUsage)
	if len(forms) == 0 || len(before) >= len(forms) && !strings.Contains(forms[len(forms)-1], "...") {
		return nil
	}
	switch form := forms[min(len(before), len(forms)-1)]; form {
	case "POOL/BACKEND":
		return k.values("backend")
	case "[POOL]":
		return k.pools()
	case "SESSION...":
		return k.sessions()
	case "[COMMAND...]":
		_, among, _ := resolve(k.app, before)
		return commandNames(among)
	default:
		var found []candidate
		for word := range strings.SplitSeq(form, "|") {
			if word == strings.ToLower(word) && word != form {
				found = append(found, candidate{word: word})
			}
		}
		return found
	}
}

// values are those of a flag.
func (k *completion) values(flag string) (found []candidate) {
	switch flag {
	case "sort":
		for _, word := range admin.SessionOrders() {
			found = append(found, candidate{word: word})
		}
	case "route":
		for _, r := range asked(k, (*client.Client).Routes) {
			found = append(found, candidate{r.Name, few(r.Hosts)})
		}
	case "listener":
		for _, l := range asked(k, (*client.Client).Status).Listeners {
			found = append(found, candidate{l.Name, l.Address})
		}
	case "backend":
		for _, b := range k.backends() {
			found = append(found, candidate{backendName(&b), b.State + ", " + sessionsText(b.Sessions)})
		}
	}
	return found
}

func (k *completion) pools() (found []candidate) {
	for _, p := range asked(k, (*client.Client).Status).Pools {
		found = append(found, candidate{p.Name, fmt.Sprintf("%d of %d ready", p.Ready, p.Backends)})
	}
	return found
}

func (k *completion) backends() []admin.Backend {
	return asked(k, func(c *client.Client, ctx context.Context) ([]admin.Backend, error) { return c.Backends(ctx, "") })
}

func (k *completion) sessions() (found []candidate) {
	const most = 100 // the oldest
	all := asked(k, func(c *client.Client, ctx context.Context) (admin.Sessions, error) {
		return c.Sessions(ctx, client.SessionOptions{Limit: most})
	})
	for _, s := range all.Sessions {
		found = append(found, candidate{s.ID, s.Client + " " + sentence(s.SNI)})
	}
	return found
}

// asked asks the balancer that the command line names; without one there is nothing.
func asked[T any](k *completion, question func(*client.Client, context.Context) (T, error)) (answer T) {
	path, err := k.where.path()
	if err != nil {
		return answer
	}
	ctx, stop := context.WithTimeout(k.ctx, completionPatience)
	defer stop()
	balancer := client.New(path)
	defer balancer.Close()
	answer, _ = question(balancer, ctx) // at the press of a key no error is wanted
	return answer
}
