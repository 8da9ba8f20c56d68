package main

import (
	_ "embed"
	"fmt"

	"github.com/urfave/cli/v2"
)

// The scripts ask the program itself, by the command complete.
var (
	//go:embed completion/snicket.bash
	bashCompletion string
	//go:embed completion/snicket.zsh
	zshCompletion string
	//go:embed completion/snicket.fish
	fishCompletion string
)

func completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print the completions for a shell: bash, zsh or fish",
		ArgsUsage: "bash|zsh|fish",
		Description: "They know commands and flags, and of a running balancer the names of pools, backends, routes and sessions.\n" +
			"bash: snicket completion bash > /etc/bash_completion.d/snicket\n" +
			"zsh:  snicket completion zsh > /usr/local/share/zsh/site-functions/_snicket\n" +
			"fish: snicket completion fish > ~/.config/fish/completions/snicket.fish",
		Action: func(c *cli.Context) error {
			text := ""
			switch shell := c.Args().First(); shell {
			case "bash":
				text = bashCompletion
			case "zsh":
				text = zshCompletion
			case "fish":
				text = fishCompletion
			default:
				return usage(c, "for %q: it is there for bash, zsh and fish", shell)
			}
			_, err := fmt.Fprint(c.App.Writer, text)
			return err
		},
	}
}
