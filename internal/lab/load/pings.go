package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/snicketlb/snicket/internal/lab"
)

// pings sends a message on one of n echo sessions after the other, at an even rate, and says how long after it was due
// each was back: one that waits makes all that fall due meanwhile late as well, as it would users. It is one thread of
// blocking system calls, so that what it measures is nobody's scheduler but the kernel's.
func pings(o options) error {
	runtime.LockOSThread()
	hello := lab.Hello(o.sni)
	fds := make([]int, o.n)
	for i := range fds {
		c, err := o.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		if err := echoed(c, hello, o.patience); err != nil {
			return err
		}
		if fds[i], err = blocking(c, o.patience); err != nil {
			return err
		}
		defer unix.Close(fds[i])
	}
	say("pinging")
	message, got := bytes.Repeat([]byte{'p'}, 64), make([]byte, 64)
	every := time.Second / time.Duration(o.rate)
	late := make([]time.Duration, 0, int(o.length/every))
	begin := time.Now()
	for i := range cap(late) {
		due := begin.Add(time.Duration(i) * every)
		if wait := unix.NsecToTimespec(int64(time.Until(due))); time.Now().Before(due) {
			_ = unix.Nanosleep(&wait, nil) // a signal ends it early: then the ping is early as well
		}
		if err := ping(fds[i%len(fds)], message, got); err != nil {
			return fmt.Errorf("ping %d: %w", i, err)
		}
		late = append(late, max(0, time.Since(due)))
	}
	slices.Sort(late)
	of := func(share float64) int64 { return late[min(len(late)-1, int(share*float64(len(late))))].Microseconds() }
	say("result pings=%d p50=%d p99=%d p999=%d max=%d", len(late), of(0.5), of(0.99), of(0.999), of(1))
	return nil
}

// blocking returns a descriptor of c, the caller's own, whose calls block, a read for as long as patience.
func blocking(c *net.TCPConn, patience time.Duration) (fd int, err error) {
	f, err := c.File()
	if err != nil {
		return -1, err
	}
	defer f.Close()
	if fd, err = unix.Dup(int(f.Fd())); err != nil { // Fd makes it block
		return -1, err
	}
	limit := unix.NsecToTimeval(int64(patience))
	return fd, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
}

// ping sends message and reads as much into got.
func ping(fd int, message, got []byte) error {
	if _, err := unix.Write(fd, message); err != nil {
		return err
	}
	for n := 0; n < len(got); {
		m, err := unix.Read(fd, got[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return err
		case m == 0:
			return io.ErrUnexpectedEOF
		}
		n += m
	}
	if !bytes.Equal(got, message) {
		return errWrong
	}
	return nil
}
