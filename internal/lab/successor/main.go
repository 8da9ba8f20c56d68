// Successor is what a balancer must never meet: a program that is to go on in its place,
// and fails. By the name under which it is called it knows at which step. Tests give it to
// a real balancer, which has to go on as if nothing had been.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/snicketlb/snicket/pkg/upgrade"
)

// Patience is longer than any balancer waits.
const patience = time.Minute

func main() {
	if err := fail(filepath.Base(os.Args[0])); err != nil {
		fmt.Fprintln(os.Stderr, "successor:", err)
	}
	os.Exit(3)
}

// fail goes as far as the step that the name tells of, and no further.
func fail(step string) error {
	c, err := upgrade.Inherited()
	if err != nil || c == nil {
		return fmt.Errorf("no process to follow: %w", err)
	}
	if step == "exits" {
		return nil
	}
	hello := upgrade.Greeting{Protocol: upgrade.Protocol, PID: os.Getpid(), Version: "v0.0.0-" + step}
	if step == "speaks-otherwise" {
		hello.Protocol = 99
	}
	if err := c.Greet(&hello); err != nil {
		return err
	}
	if step == "speaks-otherwise" {
		<-time.After(patience)
	}
	for {
		s, _, err := c.Sockets()
		if err != nil {
			return err
		}
		if s.Last {
			break
		}
	}
	switch step {
	case "refuses":
		c.Refuse("there is no room", "and no time")
		<-time.After(patience)
	case "exits-unable":
		return nil
	}
	if err := c.SendAble(); err != nil {
		return err
	}
	switch step {
	case "exits-able":
		return nil
	case "hangs-able":
		<-time.After(patience)
	}
	sessions, _, err := c.Sessions(patience)
	if err != nil {
		return err
	}
	switch step {
	case "hangs-with-sessions":
		<-time.After(patience)
	case "loses-one":
		if err := c.SendHave(len(sessions) - 1); err != nil {
			return err
		}
		<-time.After(patience)
	case "exits-with-all":
		if err := c.SendHave(len(sessions)); err != nil {
			return err
		}
		return c.Go(patience)
	}
	return nil // it exits with all of them
}
