package main

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"time"
)

// situation is ten backends and what the balancer is told of them.
type situation struct {
	name, what string
	backends   []machine
}

// machine serves as many sessions at once as it has workers; further ones wait
// within it, first come first served, and count as its sessions meanwhile. A
// session takes it its length divided by speed.
type machine struct {
	workers int
	speed   float64
	weight  int
}

// load is the share of all capacity that the sessions ask for.
const load = 0.85

// workers is how many sessions the smallest machine serves at once.
const workers = 20

func situations() []situation {
	sizes := []int{1, 1, 1, 1, 1, 2, 2, 2, 4, 4}
	s := []situation{
		{name: "equal", what: "ten equal backends"},
		{name: "weighted", what: "five backends of size 1, three of size 2, two of size 4, with weights that say so"},
		{name: "untold", what: "the same backends, all of weight 1"},
		{name: "one slow", what: "ten backends of weight 1, one of which takes five times as long"},
	}
	for i, size := range sizes {
		s[0].backends = append(s[0].backends, machine{workers: workers, speed: 1, weight: 1})
		s[1].backends = append(s[1].backends, machine{workers: workers * size, speed: 1, weight: size})
		s[2].backends = append(s[2].backends, machine{workers: workers * size, speed: 1, weight: 1})
		slow := machine{workers: workers, speed: 1, weight: 1}
		if i == 3 {
			slow.speed = 0.2
		}
		s[3].backends = append(s[3].backends, slow)
	}
	return s
}

// capacity is how many sessions of length 1 s all backends serve in a second.
func (s *situation) capacity() float64 {
	sum := 0.0
	for _, m := range s.backends {
		sum += float64(m.workers) * m.speed
	}
	return sum
}

// session is one arrival.
type session struct {
	after  time.Duration // since the one before
	length time.Duration
	client netip.Addr
	name   string
}

// arrivals makes sessions: they come at random (Poisson), last 1 s in the mean
// and unevenly so (log-normal, σ = 1.5: the longest of a hundred lasts 10 s, of a
// million some six minutes), and are of 50,000 clients for 2,000 names, of
// which some are much busier than others (Zipf).
type arrivals struct {
	rate    float64 // a second
	random  *rand.Rand
	clients *rand.Zipf
	names   *rand.Zipf
}

const sigma = 1.5

func newArrivals(rate float64, seed uint64) *arrivals {
	r := rand.New(rand.NewPCG(seed, 0))
	return &arrivals{rate: rate, random: r, clients: rand.NewZipf(r, 1.1, 50, 50_000-1), names: rand.NewZipf(r, 1.1, 10, 2_000-1)}
}

func (a *arrivals) next() session {
	length := math.Exp(sigma*a.random.NormFloat64() - sigma*sigma/2)
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], 10<<24|uint32(a.clients.Uint64()))
	return session{
		after:  inSeconds(a.random.ExpFloat64() / a.rate),
		length: max(inSeconds(length), 1),
		client: netip.AddrFrom4(ip),
		name:   "host" + strconv.FormatUint(a.names.Uint64(), 10) + ".example.com",
	}
}

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
