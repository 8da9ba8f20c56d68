package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/admin"
	"github.com/snicketlb/snicket/sni"
)

// helloPatience is how long hello --listen waits for a hello.
const helloPatience = 10 * time.Second

func helloCommand() *cli.Command {
	return &cli.Command{
		Name: "hello", Usage: "decode a ClientHello",
		ArgsUsage:   "[FILE]",
		Description: "FILE, or standard input for -, holds the first bytes of a connection: " + hexForms + ". With --listen clients are decoded as they come, and refused.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "listen", Usage: "listen on `ADDRESS` and decode what clients send, till Ctrl-C"},
			&cli.BoolFlag{Name: "json", DisableDefaultText: true, Usage: "print one JSON object for each hello"},
		},
		Action: func(c *cli.Context) error {
			p := &helloPrinter{w: c.App.Writer, json: c.Bool("json")}
			switch address, file := c.String("listen"), c.Args().First(); {
			case address != "" && c.Args().Len() == 0:
				ctx, stop := signal.NotifyContext(c.Context, os.Interrupt, syscall.SIGTERM)
				defer stop()
				return listenForHellos(ctx, address, p, c.App.ErrWriter)
			case address != "" || c.Args().Len() != 1:
				return usage(c, "takes one FILE, or --listen ADDRESS")
			case file == "-":
				return decodeHello(c.App.Reader, p)
			default:
				f, err := os.Open(file)
				if err != nil {
					return &hinted{err, "name a file that this user can read, or - for standard input"}
				}
				defer f.Close()
				return decodeHello(f, p)
			}
		},
	}
}

func decodeHello(r io.Reader, p *helloPrinter) error {
	const most = 8 * sni.DefaultMax // room for hexadecimal and one-byte records
	b, err := io.ReadAll(io.LimitReader(r, most))
	if err != nil {
		return err
	}
	raw := fromHex(b)
	hello, err := sni.Parse(raw, 0)
	if errors.Is(err, sni.ErrMore) {
		err = fmt.Errorf("the ClientHello ends too early, after %d bytes", len(raw))
		return &hinted{err, "capture all of what the client sends first; accepted are " + hexForms}
	}
	if err != nil {
		return explainBytes(raw, err)
	}
	return p.print("", hello)
}

// listenForHellos prints the hello of each client and refuses it, until ctx is done.
func listenForHellos(ctx context.Context, address string, p *helloPrinter, stderr io.Writer) error {
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &hinted{err, "another process listens there; ss -ltnp shows which"}
	case err != nil:
		return &hinted{err, "write an address and a port that are free here, such as 127.0.0.1:8443"}
	}
	defer context.AfterFunc(ctx, func() { l.Close() })()
	defer l.Close()
	fmt.Fprintf(stderr, "listening on %s\n", l.Addr())
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if err := receiveHello(conn, p); err != nil {
			fmt.Fprintf(stderr, "%s: %v\n", conn.RemoteAddr(), err)
		}
		conn.Close()
	}
}

func receiveHello(conn net.Conn, p *helloPrinter) error {
	if err := conn.SetDeadline(time.Now().Add(helloPatience)); err != nil {
		return err
	}
	var parser sni.Parser
	buf := make([]byte, 0, 16<<10)
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := conn.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return err
		}
		buf = buf[:len(buf)+n]
		hello, err := parser.Parse(buf)
		if errors.Is(err, sni.ErrMore) {
			continue
		}
		if err != nil {
			return explainBytes(buf, err)
		}
		if err := p.print(conn.RemoteAddr().String(), hello); err != nil {
			return err
		}
		_, err = conn.Write(sni.AppendAlert(nil, hello, sni.AlertUserCanceled))
		return err
	}
}

// helloPrinter writes hellos for people, or as JSON.
type helloPrinter struct {
	w       io.Writer
	json    bool
	printed int
}

// helloText is a hello in words. Its field names are the keys of the JSON form.
type helloText struct {
	Client       string   `json:"client,omitempty"`
	SNI          string   `json:"sni"`
	ALPN         []string `json:"alpn"`
	Versions     []string `json:"versions"`
	CipherSuites []string `json:"cipher_suites"`
	Groups       []string `json:"groups"`
	KeyShares    []string `json:"key_shares"`
	Signatures   []string `json:"signature_algorithms"`
	ECH          bool     `json:"ech"`
	JA4          string   `json:"ja4"`
	Bytes        int      `json:"bytes"`
}

func textOf(client string, h *sni.Hello) helloText {
	t := helloText{
		Client: client, SNI: h.ServerName, ALPN: append([]string{}, h.ALPN...),
		CipherSuites: words(h.CipherSuites, suiteName),
		Groups:       words(h.Groups, groupName),
		KeyShares:    words(h.KeyShares, groupName),
		Signatures:   words(h.SignatureSchemes, signatureName),
		ECH:          h.ECH, JA4: h.JA4(), Bytes: h.Len,
	}
	versions := h.Versions
	if len(versions) == 0 {
		versions = []uint16{h.LegacyVersion}
	}
	t.Versions = words(versions, versionName)
	return t
}

func words(values []uint16, name func(uint16) string) []string {
	out := make([]string, 0, len(values))
	for _, v := range values {
		if sni.IsGREASE(v) {
			out = append(out, "GREASE")
			continue
		}
		out = append(out, name(v))
	}
	return out
}

func (p *helloPrinter) print(client string, h *sni.Hello) error {
	t := textOf(client, h)
	if p.json {
		return admin.WriteJSON(p.w, t, "")
	}
	if p.printed > 0 {
		fmt.Fprintln(p.w)
	}
	p.printed++
	g := newList(p.w)
	row := func(key string, values ...string) { g.row(key, strings.Join(values, ", ")) }
	if client != "" {
		row("client", client)
	}
	row("sni", t.SNI)
	quoted := make([]string, len(t.ALPN))
	for i, proto := range t.ALPN {
		quoted[i] = fmt.Sprintf("%q", proto)
	}
	row("alpn", quoted...)
	row("versions", t.Versions...)
	row("cipher suites", t.CipherSuites...)
	row("groups", t.Groups...)
	row("key shares", t.KeyShares...)
	row("signature algorithms", t.Signatures...)
	ech := "-"
	if t.ECH {
		ech = "present: an outer hello, or GREASE"
	}
	row("ech", ech)
	row("ja4", t.JA4)
	row("bytes", fmt.Sprint(t.Bytes))
	return g.flush()
}
