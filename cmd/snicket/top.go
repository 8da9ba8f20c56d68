package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/term"
	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/pkg/admin/client"
)

const (
	topEvery    = time.Second
	topPatience = 5 * time.Second // for one look
	topSessions = 1000            // at most, of the sessions
	topFrames   = 20              // a second, at most
)

func topCommand() *cli.Command {
	return asking(&cli.Command{
		Name: "top", Usage: "watch a running balancer, and drain its backends",
		Description: "A live view in the terminal; ? shows its keys.",
	}, func(ctx context.Context, c *cli.Context, balancer *client.Client) error {
		in, out := terminal(c.App.Reader), terminal(c.App.Writer)
		if in == nil || !drawable(c.App.Writer) {
			return &hinted{errors.New("top needs a terminal that it can draw on"), "snicket status, backends and routes print what there is, with --json for programs"}
		}
		if _, err := balancer.Status(ctx); err != nil {
			return err // whoever begins with a wrong place should see it as with any command
		}
		looker := &looker{ctx: ctx, c: balancer}
		p := tea.NewProgram(newTop(looker.look, looker.wish), tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler(), tea.WithFPS(topFrames))
		_, err := p.Run()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	})
}

// terminal is stream if it is one, else nil.
func terminal(stream any) *os.File {
	if f, ok := stream.(*os.File); ok && term.IsTerminal(f.Fd()) {
		return f
	}
	return nil
}

// drawable reports whether stream is a terminal whose lines can be drawn anew.
func drawable(stream any) bool {
	return terminal(stream) != nil && os.Getenv("TERM") != "dumb" && os.Getenv("TERM") != ""
}

// looked is what was seen at one look, or why nothing was.
type looked struct {
	at       time.Time
	status   admin.Status
	routes   []admin.Route
	backends []admin.Backend
	sessions admin.Sessions // of the view of sessions alone
	err      error
}

// wished is what became of an operator's wish.
type wished struct {
	text string
	err  error
}

// looker asks a balancer.
type looker struct {
	ctx context.Context //nolint:containedctx // commands of the program run without one
	c   *client.Client
}

// look looks once; sessions says in which order they are wanted, empty for none.
func (l *looker) look(sessions string) tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(l.ctx, topPatience)
		defer cancel()
		v := looked{at: time.Now()}
		if v.status, v.err = l.c.Status(ctx); v.err != nil {
			return v
		}
		if v.routes, v.err = l.c.Routes(ctx); v.err != nil {
			return v
		}
		if v.backends, v.err = l.c.Backends(ctx, ""); v.err != nil || sessions == "" {
			return v
		}
		v.sessions, v.err = l.c.Sessions(ctx, client.SessionOptions{Sort: sessions, Limit: topSessions})
		return v
	}
}

// wish asks for a state of a backend.
func (l *looker) wish(pool, backend, state string) tea.Cmd {
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(l.ctx, topPatience)
		defer cancel()
		b, err := l.c.SetState(ctx, pool, backend, state)
		return wished{fmt.Sprintf("%s/%s is %s, with %s", pool, backend, b.State, sessionsText(b.Sessions)), err}
	}
}
