package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/snicketlb/snicket/internal/lab"
)

// mostMessage bounds a message of streams.
const mostMessage = 8 << 10

// streams opens sessions with an echo backend, each of which sends messages of random
// bytes, so that there are o.rate a second in all, until stdin ends. What came back by then
// must have the SHA-256 of what was sent. The longest time that one message took to come
// back is how long a session stood still at most.
func streams(o options) error {
	opened, stop := make(chan struct{}, o.n), make(chan struct{})
	slots := make(chan struct{}, 64)
	var ends tally
	var longest sync.Mutex // guards most
	var most time.Duration
	var all sync.WaitGroup
	for i := range o.n {
		all.Go(func() {
			slots <- struct{}{}
			s := stream{o: o, rand: rand.NewChaCha8([32]byte{byte(i), byte(i >> 8), byte(i >> 16)})}
			err := s.open()
			<-slots
			opened <- struct{}{}
			if err == nil {
				err = s.run(stop)
			}
			ends.add(err)
			longest.Lock()
			defer longest.Unlock()
			most = max(most, s.longest)
		})
	}
	for range o.n {
		<-opened
	}
	say("holding %d", o.n)
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	close(stop)
	all.Wait()
	say("pause %v", most)
	say("result %v", &ends)
	return nil
}

type stream struct {
	o       options
	rand    *rand.ChaCha8
	c       *net.TCPConn
	longest time.Duration
}

func (s *stream) open() (err error) {
	if s.c, err = s.o.dial(); err != nil {
		return err
	}
	return echoed(s.c, lab.Hello(s.o.sni), s.o.patience)
}

// run sends and compares until stop, then ends in order.
func (s *stream) run(stop <-chan struct{}) error {
	defer s.c.Close()
	every := time.Second * time.Duration(s.o.n) / time.Duration(s.o.rate)
	tick := time.NewTicker(every)
	defer tick.Stop()
	sent, back := sha256.New(), sha256.New()
	message, got := make([]byte, mostMessage), make([]byte, mostMessage)
	for going := true; going; {
		select {
		case <-tick.C:
		case <-stop:
			going = false
		}
		m := message[:1+s.rand.Uint64()%mostMessage]
		_, _ = s.rand.Read(m) // never fails
		sent.Write(m)
		begun := time.Now()
		_ = s.c.SetDeadline(begun.Add(s.o.patience))
		if _, err := s.c.Write(m); err != nil {
			return err
		}
		if _, err := io.ReadFull(s.c, got[:len(m)]); err != nil {
			return err
		}
		back.Write(got[:len(m)])
		s.longest = max(s.longest, time.Since(begun))
	}
	if err := s.c.CloseWrite(); err != nil {
		return err
	}
	rest, err := io.ReadAll(s.c)
	if err != nil {
		return err
	}
	back.Write(rest)
	if !bytes.Equal(sent.Sum(nil), back.Sum(nil)) {
		return fmt.Errorf("%w: the digests differ", errWrong)
	}
	return nil
}
