package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// hold opens sessions, a few at a time, and proves each by its hello coming back from an echo backend.
func hold(o options) error {
	hello := lab.Hello(o.sni)
	conns := make([]*net.TCPConn, o.n)
	var failed tally
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	for i := range conns {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c, err := o.dial()
			if err == nil {
				conns[i] = c
				err = echoed(c, hello, o.patience)
			}
			failed.add(err)
		})
	}
	wg.Wait()
	say("holding %d: %v", o.n, &failed)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	// Each is still whole: one more byte comes back, and then its end.
	var after tally
	for _, c := range conns {
		if c != nil {
			after.add(echoed(c, []byte{1}, o.patience))
			c.Close()
		}
	}
	say("result %v", &after)
	return nil
}

// hellos opens connections that send half a hello and then nothing, and waits for the end of each.
func hellos(o options) {
	hello := lab.Hello("slow.test")
	var wg sync.WaitGroup
	var ends tally
	var opened sync.WaitGroup
	opened.Add(o.n)
	for range o.n {
		wg.Go(func() {
			c, err := o.dial()
			opened.Done()
			if err == nil {
				defer c.Close()
				c.SetDeadline(time.Now().Add(o.patience))
				_, err = c.Write(hello[:len(hello)/2])
			}
			if err == nil {
				_, err = c.Read(make([]byte, 1))
			}
			if err == nil {
				err = errWrong
			}
			ends.add(err)
		})
	}
	opened.Wait()
	say("holding %d", o.n)
	wg.Wait()
	say("result %v", &ends)
}

// calls opens sessions at an even rate, however long each takes.
func calls(o options) error {
	one, err := o.call()
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var ends tally
	say("calling")
	begin := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	made := 0
	for now := begin; now.Sub(begin) < o.length; now = <-tick.C {
		for due := int(now.Sub(begin).Seconds() * float64(o.rate)); made < due; made++ {
			wg.Go(func() { ends.add(one()) })
		}
	}
	wg.Wait()
	say("result %v", &ends)
	return nil
}

// call returns the function that makes one call.
func (o options) call() (func() error, error) {
	if !o.tls {
		hello := lab.Hello(o.sni)
		return func() error {
			c, err := o.dial()
			if err != nil {
				return err
			}
			defer c.Close()
			return echoed(c, hello, o.patience)
		}, nil
	}
	pem, err := os.ReadFile(o.ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("no certificate in %s", o.ca)
	}
	conf := &tls.Config{ServerName: o.sni, RootCAs: roots}
	return func() error {
		c, err := o.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(o.patience))
		secure := tls.Client(c, conf)
		if err := echoed(secure, []byte("ping"), o.patience); err != nil {
			return err
		}
		return secure.Close() // close_notify: without it the end would be a cut
	}, nil
}

func echoed(c net.Conn, message []byte, patience time.Duration) error {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(message); err != nil {
		return err
	}
	got := make([]byte, len(message))
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, message) {
		return errWrong
	}
	return nil
}
