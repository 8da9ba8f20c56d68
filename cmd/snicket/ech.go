package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/sni"
)

func echKeygenCommand() *cli.Command {
	return &cli.Command{
		Name: "ech-keygen", Usage: "make a key for Encrypted Client Hello (ECH)",
		ArgsUsage: "[HOST...]",
		Description: "The key goes to a file for ech_keys in [tls], in the format of RFC 9934. What clients must know " +
			"goes to standard output, as an HTTPS record for the DNS of each HOST that ECH is to hide.",
		Flags: []cli.Flag{
			neededFlag{&cli.StringFlag{Name: "public-name", Usage: "let `NAME` stand in hellos for all to read; a route must terminate it"}},
			&cli.StringFlag{Name: "out", Aliases: []string{"o"}, Usage: "write the key to `FILE`, which must not exist", DefaultText: "NAME.ech.pem"},
		},
		Action: echKeygen,
	}
}

func echKeygen(c *cli.Context) error {
	name := c.String("public-name")
	if name == "" {
		return usage(c, "needs --public-name, the name that everybody may read")
	}
	hosts := c.Args().Slice()
	for i, host := range hosts {
		normal, err := sni.CheckPattern(host)
		switch {
		case err != nil:
			return usageHint("write the name of a host", "%w", err)
		case !strings.Contains(normal, ".") || strings.HasPrefix(normal, "**"):
			return usageHint(`write a name, or "*.example.com"`, "%q is no name in DNS", host)
		}
		hosts[i] = normal
	}
	key, err := certs.GenerateECH(name)
	if err != nil {
		return usageHint("write the name of a host that a route terminates", "%w", err)
	}
	text, err := key.PEM()
	if err != nil {
		return err
	}
	file := c.String("out")
	if file == "" {
		file = key.PublicName + ".ech.pem"
	}
	if err := writeSecret(file, text); err != nil {
		return err
	}
	if len(hosts) == 0 {
		hosts = []string{"HOST"}
	}
	record := base64.StdEncoding.EncodeToString(key.ConfigList())
	fmt.Fprintf(c.App.ErrWriter, "%s: a key for %s, for ech_keys in [tls]; the DNS of each host it is to hide needs:\n", file, key.PublicName)
	for _, host := range hosts {
		if _, err := fmt.Fprintf(c.App.Writer, "%s. 3600 IN HTTPS 1 . ech=%s\n", host, record); err != nil {
			return err
		}
	}
	return nil
}

// writeSecret writes a new file that its owner alone may read.
func writeSecret(file string, b []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return &hinted{fmt.Errorf("%s exists", file), "clients may know the key in it: keep it in ech_keys for a day behind the new one; -o names another file"}
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}
