package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// What a shell runs at the press of a key asks the program itself, so that it knows
// each command and flag of the version installed.
var (
	//go:embed completion/snicket.bash
	bashCompletion string
	//go:embed completion/snicket.zsh
	zshCompletion string
)

// completing is what the scripts end their question with.
const completing = "--generate-bash-completion"

func completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print the completions for a shell: bash, zsh or fish",
		ArgsUsage: "bash|zsh|fish",
		Description: "bash: snicket completion bash > /etc/bash_completion.d/snicket\n" +
			"zsh:  snicket completion zsh > /usr/local/share/zsh/site-functions/_snicket\n" +
			"fish: snicket completion fish > ~/.config/fish/completions/snicket.fish",
		BashComplete: func(c *cli.Context) {
			for _, shell := range []string{"bash", "zsh", "fish"} {
				fmt.Fprintln(c.App.Writer, shell)
			}
		},
		Action: func(c *cli.Context) error {
			text := ""
			switch shell := c.Args().First(); shell {
			case "bash":
				text = bashCompletion
			case "zsh":
				text = zshCompletion
			case "fish":
				var err error
				if text, err = c.App.ToFishCompletion(); err != nil {
					return err
				}
			default:
				return usage(c, "for %q: it is there for bash, zsh and fish", shell)
			}
			_, err := fmt.Fprint(c.App.Writer, text)
			return err
		},
	}
}

// asksForCompletion reports whether a completion script asks, which wants its words
// in their order.
func asksForCompletion(args []string) bool {
	return len(args) > 1 && args[len(args)-1] == completing && !slices.Contains(args[:len(args)-1], "--") &&
		!strings.HasPrefix(args[0], "-")
}
