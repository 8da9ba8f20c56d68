package health_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/snicketlb/snicket/health"
)

func describe(r health.AgentReport) string {
	words := []string{r.Said.String()}
	if r.Wish != health.NoWish {
		words = append(words, r.Wish.String())
	}
	if r.Weighs {
		words = append(words, fmt.Sprintf("%d%%", r.Weight))
	}
	return strings.Join(words, " ")
}

func TestParseAgent(t *testing.T) {
	for _, tt := range []struct{ line, want, wantErr string }{
		{"up", "ready", ""},
		{"UP 75%", "ready 75%", ""},
		{"ready\t50%,up", "ready ready 50%", ""},
		{"drain", "unknown drain", ""},
		{"maint", "unknown maint", ""},
		{"0%", "unknown 0%", ""},
		{"200%", "unknown 200%", ""},
		{"maxconn:30 up", "ready", ""},
		{"down", "down", "agent says down"},
		{"down #disk full", "down", "agent says down: disk full"},
		{"stopped#by hand", "down", "agent says stopped: by hand"},
		{"maint 10% fail", "down maint 10%", "agent says fail"},
		{"up # all well", "ready", ""},
		{"down # \x1b[2J", "down", "agent says down: ?[2J"},
		{"", "unknown", `agent's line "" holds no word`},
		{"# nothing", "unknown", `agent's line "# nothing" holds no word`},
		{"up sideways", "unknown", `agent's word "sideways" is not known`},
		{"-5%", "unknown", `agent's word "-5%": want a number, and of a percentage at most 10000`},
		{"10001%", "unknown", `agent's word "10001%": want a number, and of a percentage at most 10000`},
		{"%", "unknown", `agent's word "%": want a number, and of a percentage at most 10000`},
		{"75", "unknown", `agent's word "75" is not known`},
	} {
		t.Run(tt.line, func(t *testing.T) {
			r, err := health.ParseAgent(tt.line)
			gotErr := ""
			if err != nil {
				gotErr = err.Error()
			}
			if got := describe(r); got != tt.want || gotErr != tt.wantErr {
				t.Errorf("got %q, %q; want %q, %q", got, gotErr, tt.want, tt.wantErr)
			}
		})
	}
}

func TestAgent(t *testing.T) {
	noLeak(t)
	for _, tt := range []struct {
		name, send string
		serve      func(net.Conn)
		timeout    time.Duration
		want       string
		wantReport string
	}{
		{"up", "", greeting("up 50%\n"), long, "", "ready 50%"},
		{"ended by the connection", "", abruptly("up"), long, "", "ready"},
		{"in pieces", "", func(conn net.Conn) {
			for _, s := range []string{"dra", "in", " up", "\r", "\n"} {
				io.WriteString(conn, s)
			}
			mute(conn)
		}, long, "", "ready drain"},
		{"asked", "how?\n", func(conn net.Conn) {
			b := make([]byte, 5)
			io.ReadFull(conn, b)
			fmt.Fprintf(conn, "down # %s", b)
		}, long, "agent says down: how?", "down"},
		{"mute", "", mute, short, "no answer within 60ms", "unknown"},
		{"no end", "", greeting("up"), partly, `read 2 bytes "up", then no more, want an agent's line`, "unknown"},
		{"closing", "x", closing, long, "read EOF after 0 bytes, want an agent's line", "unknown"},
		{"resetting", "x", resetting, long, "read: connection reset by peer", "unknown"},
		{"long", "", greeting(strings.Repeat("up ", 1000)), long, "agent's line of more than 1024 bytes", "unknown"},
		{"not an agent", "", greeting("220 mail ESMTP\r\n"), long, `agent's word "220" is not known`, "unknown"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := health.Agent{TCP: health.TCP{Address: backend(t, listen(t, "tcp"), tt.serve)}, Send: []byte(tt.send)}
			if tt.timeout == partly {
				once(&p.TCP)
			}
			o, got := probe(t, p, tt.timeout)
			if r := describe(o.Agent); got != tt.want || r != tt.wantReport {
				t.Errorf("got %q, %q; want %q, %q", got, r, tt.want, tt.wantReport)
			}
		})
	}
}

// What an agent leaves out stays as it said last; what it newly wishes is reported
// without a change of state.
func TestAgentsWordStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &scripted{}
		says := func(line string) {
			r, err := health.ParseAgent(line)
			p.see(health.Observation{Agent: r})
			p.answer(err)
		}
		var last health.Transition
		says("up")
		target := every("a", p)
		target.Options.Fall, target.Options.Rise = 1, 1
		r := newRig(t, target)
		defer r.stop()
		check := func(line, want string) {
			t.Helper()
			says(line)
			r.after(time.Second)
			got := "none"
			r.mu.Lock()
			if len(r.got) > 0 {
				last = r.got[len(r.got)-1]
				got = fmt.Sprintf("%s>%s %s %v", last.From, last.To, describe(last.Observation.Agent), last.Err)
			}
			r.got = nil
			r.mu.Unlock()
			if got != want {
				t.Errorf("%q: got %q, want %q", line, got, want)
			}
		}
		r.want("a unknown>ready @0s")
		check("up 50%", "ready>ready unknown 50% <nil>")
		check("up", "none")
		check("drain", "ready>ready unknown drain 50% <nil>")
		check("up 50%", "none")
		check("down # disk", "ready>down unknown drain 50% agent says down: disk")
		check("60%", "down>down unknown drain 60% agent says down: disk") // not up as it did not say so
		check("60%", "none")
		check("ready", "down>down unknown ready 60% agent says down: disk")
		check("up", "down>ready unknown ready 60% <nil>")
		if s, _ := r.Status("a"); s.Why != nil || describe(s.Observation.Agent) != "unknown ready 60%" {
			t.Errorf("status %+v", s)
		}
		other := target
		other.Key, other.Prober = "another kind", &scripted{}
		r.Update([]health.Target{other})
		synctest.Wait()
		if r.mu.Lock(); len(r.got) != 1 || r.got[0].Observation.Agent != (health.AgentReport{}) {
			t.Errorf("got %+v, want the wishes of an agent that is no more taken back", r.got)
		}
		r.mu.Unlock()
	})
}
