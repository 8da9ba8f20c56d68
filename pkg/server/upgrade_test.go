package server_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/snicketlb/snicket/pkg/server"
	"github.com/snicketlb/snicket/pkg/upgrade"
)

// followRole makes the program of the tests a balancer, by the file that it names.
const followRole = "-follow"

// TestMain runs the tests, or is the process that a test is upgraded to.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == followRole {
		if err := follow(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func follow(path string) error {
	from, err := upgrade.Inherited()
	if err != nil {
		return err
	}
	s, err := server.New(path, server.Options{Stderr: os.Stderr, From: from})
	if err != nil {
		server.Refuse(from, err)
		return err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	return s.Run(context.Background(), signals)
}

// followed is how this program's balancer is followed by another.
func followed(t *testing.T) *server.Upgrade {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return &server.Upgrade{Path: path, Stderr: os.Stderr} // startBy knows the file
}

// end ends the process that an answer tells of, and waits until it has.
func end(t *testing.T, answer string) {
	t.Helper()
	match := regexp.MustCompile(`"pid":([0-9]+)`).FindStringSubmatch(answer)
	if match == nil {
		t.Fatalf("no process in %s", answer)
	}
	pid, _ := strconv.Atoi(match[1])
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}
