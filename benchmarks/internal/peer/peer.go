// Package peer knows the balancers that are held against each other, and configures each as somebody would who knows
// it well. Start at [All].
//
// A peer gets one listener and one backend ([Setup]) and turns them into a command line and the files it reads
// ([Command]). All get two threads or workers, no log (but for Snicket, which logs every session), the same cipher
// suite where they terminate, and as many connections as descriptors allow.
//
// The package starts nothing and writes nothing.
package peer

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Workers is how many threads or processes every peer gets.
const Workers = 2

// Setup is what a peer is to do.
type Setup struct {
	Dir         string // its files go here; it may write here
	Listen      string // IP:port
	Backend     string // IP:port
	Names       []string
	User        string // the account that it is started as
	Terminate   bool
	Certificate string // a file with the chain and the key, in this order, where it terminates
}

// Command is how a peer is started: Args[0] is the program. Files maps names within Dir to their content.
type Command struct {
	Args  []string
	Files map[string]string
}

// Peer is a balancer and what it can do.
type Peer struct {
	Name      string
	Program   string // as exec.LookPath takes it; Version's output is noted beside the figures
	Version   []string
	Pass      bool // passes TLS through
	Terminate bool
	Hybrid    bool // knows X25519MLKEM768
	MaxNames  int  // 0: any number; 1: it does not tell names apart
	Configure func(program string, s Setup) Command
}

// All returns every peer the rig knows, in the order of its tables: the limit, Snicket, and the others. programs
// replaces the program of a peer by name. Environment variables of the form RIG_BIN_NAME=PROGRAM do the same, and
// RIG_PEER_NAME=COMMAND adds a peer; see [Foreign].
func All(programs map[string]string, environ []string) ([]Peer, error) {
	peers := []Peer{
		{Name: "limit", Program: "limit", Pass: true, MaxNames: 1, Configure: limit},
		{Name: "snicket", Program: "snicket", Version: []string{"version"}, Pass: true, Terminate: true, Hybrid: true, Configure: snicket},
		{Name: "haproxy", Program: "haproxy", Version: []string{"-v"}, Pass: true, Terminate: true, Configure: haproxy},
		{Name: "nginx", Program: "nginx", Version: []string{"-v"}, Pass: true, Terminate: true, Configure: nginx},
		{Name: "sniproxy", Program: "sniproxy", Version: []string{"-V"}, Pass: true, MaxNames: 10000, Configure: sniproxy},
		{Name: "hitch", Program: "hitch", Version: []string{"--version"}, Terminate: true, Configure: hitch},
		{Name: "tcpproxy", Program: "tcpproxy", Pass: true, MaxNames: 1, Configure: tcpproxy},
	}
	for i := range peers {
		p := &peers[i]
		if program, ok := programs[p.Name]; ok {
			p.Program = program
		}
		for _, e := range environ {
			if program, ok := strings.CutPrefix(e, "RIG_BIN_"+strings.ToUpper(p.Name)+"="); ok {
				p.Program = program
			}
		}
	}
	foreign, err := Foreign(environ)
	if err != nil {
		return nil, err
	}
	for _, f := range foreign {
		if slices.ContainsFunc(peers, func(p Peer) bool { return p.Name == f.Name }) {
			return nil, fmt.Errorf("RIG_PEER_%s: a peer of this name exists; RIG_BIN_%[1]s gives it another program",
				strings.ToUpper(f.Name))
		}
	}
	return append(peers, foreign...), nil
}

// Foreign returns the peers that environ adds. RIG_PEER_NAME is a command line, split at spaces, and
// RIG_CONFIG_NAME, if set, a file that becomes {config} in it. In both these words are replaced:
//
//	{listen} {listen_host} {listen_port}     where it listens
//	{backend} {backend_host} {backend_port}  where it connects to
//	{name} {certificate} {dir} {workers}     the host name, the PEM file, its directory, 2
//
// RIG_CAN_NAME says what it can do, any of "pass terminate hybrid"; the default is "pass terminate".
func Foreign(environ []string) ([]Peer, error) {
	set := make(map[string]string)
	for _, e := range environ {
		if key, value, ok := strings.Cut(e, "="); ok {
			set[key] = value
		}
	}
	var peers []Peer
	for key, line := range set {
		name, ok := strings.CutPrefix(key, "RIG_PEER_")
		if !ok {
			continue
		}
		args := strings.Fields(line)
		if len(args) == 0 {
			return nil, fmt.Errorf("%s: no program", key)
		}
		template := ""
		if file := set["RIG_CONFIG_"+name]; file != "" {
			text, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("RIG_CONFIG_%s: %w", name, err)
			}
			template = string(text)
		}
		p := Peer{Name: strings.ToLower(name), Program: args[0], MaxNames: 1, Pass: true, Terminate: true}
		if can, ok := set["RIG_CAN_"+name]; ok {
			words := strings.Fields(can)
			p.Pass, p.Terminate, p.Hybrid = slices.Contains(words, "pass"), slices.Contains(words, "terminate"), slices.Contains(words, "hybrid")
		}
		p.Configure = func(program string, s Setup) Command {
			r := words(s)
			c := Command{Args: []string{program}}
			for _, arg := range args[1:] {
				c.Args = append(c.Args, r.Replace(arg))
			}
			if template != "" {
				c.Files = map[string]string{"config": r.Replace(template)}
			}
			return c
		}
		peers = append(peers, p)
	}
	slices.SortFunc(peers, func(a, b Peer) int { return strings.Compare(a.Name, b.Name) })
	return peers, nil
}

// Can says whether p can do what s asks for.
func (p Peer) Can(s Setup, hybrid bool) bool {
	switch {
	case hybrid && !p.Hybrid, s.Terminate && !p.Terminate, !s.Terminate && !p.Pass:
		return false
	}
	return p.MaxNames == 0 || len(s.Names) <= p.MaxNames
}

func words(s Setup) *strings.Replacer {
	listenHost, listenPort := split(s.Listen)
	backendHost, backendPort := split(s.Backend)
	return strings.NewReplacer(
		"{listen}", s.Listen, "{listen_host}", listenHost, "{listen_port}", listenPort,
		"{backend}", s.Backend, "{backend_host}", backendHost, "{backend_port}", backendPort,
		"{name}", s.Names[0], "{certificate}", s.Certificate, "{dir}", s.Dir,
		"{config}", filepath.Join(s.Dir, "config"), "{workers}", fmt.Sprint(Workers),
	)
}

func split(address string) (host, port string) {
	at := strings.LastIndexByte(address, ':')
	return address[:at], address[at+1:]
}
