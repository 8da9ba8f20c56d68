package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// manCommand prints the manual page, for packages.
func manCommand() *cli.Command {
	return &cli.Command{
		Name: "man", Hidden: true, Usage: "print the manual page, snicket(8)",
		Action: func(c *cli.Context) error {
			var m manual
			m.write(c.App)
			_, err := io.WriteString(c.App.Writer, m.b.String())
			return err
		},
	}
}

// A manual is a page in the macros of man(7): what --help says of each command, and what
// concerns all of them.
type manual struct{ b strings.Builder }

func (m *manual) write(app *cli.App) {
	m.line(`.TH SNICKET 8 "" "snicket %s" "System Manager's Manual"`, escape(app.Version))
	m.line(".nh\n.ad l") // what is typed is not to be broken
	m.section("Name")
	m.line("snicket \\- %s", escape(app.Usage))
	m.section("Synopsis")
	for _, group := range groups() {
		for _, c := range app.Commands {
			if c.Category == group && !c.Hidden {
				m.synopsis(c)
			}
		}
	}
	m.section("Description")
	m.text("Snicket reads the server name from the ClientHello of a TLS connection and, by a table of routes, passes the connection through untouched, " +
		"or terminates TLS and speaks plain TCP or fresh TLS to a backend. One process does that, by one file of configuration.\n" +
		"snicket run is that process. Most other commands ask a running one, at a Unix socket that its owner alone may use by default.")
	for _, group := range groups() {
		m.section(group)
		if group == groupLook {
			m.text("Of these and the next, those that take --json print what programs read by it. All find the balancer at its admin socket:")
			m.term("--socket PATH", "The socket.")
			m.term("-c FILE", "The socket that FILE names in [admin].")
			m.text("Without them $SNICKET_SOCKET names it, else " + defaultConfig + " does, else it is at the usual place: see Files.")
		}
		for _, c := range app.Commands {
			if c.Category == group && !c.Hidden {
				m.command(c)
			}
		}
	}
	m.rest()
}

// synopsis is a line for a command, or for each that belongs to it.
func (m *manual) synopsis(c *cli.Command) {
	for _, s := range c.Subcommands {
		m.synopsis(s)
	}
	if len(c.Subcommands) > 0 {
		return
	}
	m.line(".HP\n.B snicket %s", escape(fullName(c)))
	for _, f := range c.Flags {
		if needed, ok := f.(neededFlag); ok {
			m.line("%s", escape(needed.form()))
		}
	}
	if c.ArgsUsage != "" {
		m.line("%s", escape(c.ArgsUsage))
	}
	for _, f := range c.Flags {
		if _, needed := f.(neededFlag); needed {
			continue
		}
		form, _, _ := strings.Cut(f.String(), "\t")
		forms := strings.Split(form, ", ")
		form, _, repeated := strings.Cut(forms[len(forms)-1], " [ ")
		if repeated {
			form += "..."
		}
		if f != cli.HelpFlag && !asksWhere(c, f) {
			m.line("%s", escape("["+form+"]"))
		}
	}
}

// asksWhere reports whether a flag says where the balancer is, as all commands that ask
// one have it.
func asksWhere(c *cli.Command, f cli.Flag) bool {
	asks := c.Category == groupLook || c.Category == groupChange || c.Category == "" // of config
	name := f.Names()[0]
	return asks && (name == "socket" || name == "config" && c.Name != "diff")
}

func (m *manual) command(c *cli.Command) {
	if len(c.Subcommands) > 0 {
		for _, s := range c.Subcommands {
			m.command(s)
		}
		return
	}
	m.line(".SS %s", escape(strings.TrimPrefix(usageLine(c), "usage: snicket ")))
	m.text(asSentence(c.Usage) + "\n" + c.Description)
	for _, f := range c.Flags {
		if f != cli.HelpFlag && !asksWhere(c, f) {
			form, use, _ := strings.Cut(f.String(), "\t")
			m.term(form, use)
		}
	}
}

// rest is what concerns more than one command.
func (m *manual) rest() {
	m.section("Exit status")
	m.term("0", "It is good, or done.")
	m.term("1", "It has failed: a configuration with problems, a change that was refused, nobody who answers, a wait that was given up.")
	m.term("2", "The command line means nothing.")
	m.text("Errors go to standard error: a line snicket: error: with what is wrong, and mostly a line snicket: hint: with what to do.")
	m.section("Signals")
	m.text("To the process of snicket run:")
	m.term("SIGHUP", "Reload, as snicket reload does.")
	m.term("SIGTERM, SIGINT", "Drain, and end when the last session has ended or the drain timeout is over. A second one ends it at once.")
	m.term("SIGUSR1", "Open the file of the access log anew, behind a rotation.")
	m.term("SIGUSR2", "Upgrade, as snicket upgrade does.")
	m.section("Environment")
	m.term("SNICKET_SOCKET", "The admin socket that commands ask, unless --socket or -c names another.")
	m.term("RUNTIME_DIRECTORY, XDG_RUNTIME_DIR", "Where the admin socket is by default, as systemd sets them.")
	m.term("STATE_DIRECTORY", "Where certificates of ACME are kept by default.")
	m.section("Files")
	m.term(defaultConfig, "The configuration.")
	m.term(systemSocket, "The admin socket of a service, and of one that root runs.")
	m.term("/var/lib/snicket", "Accounts and certificates of ACME.")
	m.section("Examples")
	m.term("snicket check && snicket config diff && snicket reload", "See that the file is good and what it would change, and put it into force.")
	m.term("snicket drain web/b2 --wait --timeout 10m", "Take a backend out, and return once its last session has ended.")
	m.term("snicket explain www.example.com --alpn h2 --from 192.0.2.7", "Which route takes such a client, and why.")
	m.term("snicket sessions --backend web/b2 --idle-over 10m --json", "Who is there and says nothing, for a program.")
	m.section("See also")
	m.text("/usr/share/doc/snicket/docs has the reference of the configuration (configuration.md), operations.md for each task of an operator, and what a session is recorded as (access-log.md). The JSON forms are those of the admin API, which describes itself: curl --unix-socket " + systemSocket + " http://snicket/openapi.yaml")
}

func (m *manual) section(name string) { m.line(".SH %s", strings.ToUpper(name)) }

// text is paragraphs, a line each.
func (m *manual) text(text string) {
	for paragraph := range strings.SplitSeq(text, "\n") {
		if paragraph != "" {
			m.line(".PP\n%s", escape(paragraph))
		}
	}
}

// term is a name, and below it what it is.
func (m *manual) term(name, text string) { m.line(".TP\n.B %s\n%s", escape(name), escape(text)) }

func (m *manual) line(format string, args ...any) { fmt.Fprintf(&m.b, format+"\n", args...) }

// escape keeps text from being taken for requests, and its hyphens from being anything
// else than what is typed.
func escape(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", `\[u2026]`, "×", `\[mu]`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		return `\&` + text
	}
	return text
}
