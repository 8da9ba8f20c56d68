package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	"github.com/snicketlb/snicket/sni"
)

const hexForms = "raw bytes, or hexadecimal: 1603…, 16:03, 16 03, 0x16 0x03, or what xxd or hexdump -C print"

// fromHex decodes b if it is hexadecimal in one of the forms that tools print, and
// else returns it.
func fromHex(b []byte) []byte {
	if len(b) > 0 && b[0] == 0x16 { // a handshake record, and no digit
		return b
	}
	digits := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || strings.ContainsRune(`:,{}"'`, r) {
			return -1
		}
		return r
	}, strings.NewReplacer("0x", "", "0X", "", `\x`, "").Replace(withoutOffsets(string(b))))
	raw, err := hex.DecodeString(digits)
	if err != nil || len(raw) == 0 {
		return b
	}
	return raw
}

// withoutOffsets strips what xxd (00000000: 1603 0100  ....) and hexdump -C
// (00000000  16 03 01 00  |....|) print around the digits.
func withoutOffsets(text string) string {
	xxd := regexp.MustCompile(`(?m)^[0-9a-fA-F]{4,}: (.*?)(  .*)?\r?$`)
	if xxd.MatchString(text) {
		return xxd.ReplaceAllString(text, "$1")
	}
	dump := regexp.MustCompile(`(?m)^[0-9a-fA-F]{7,}  (.*?)\|.*\|\r?$`)
	if !dump.MatchString(text) {
		return text
	}
	lastOffset := regexp.MustCompile(`(?m)^[0-9a-fA-F]{7,}\r?$`)
	return lastOffset.ReplaceAllString(dump.ReplaceAllString(text, "$1"), "")
}

// explainBytes adds to why b is no ClientHello what it looks like, where its
// beginning tells.
func explainBytes(b []byte, err error) error {
	looks, hint := looksLike(b)
	switch {
	case looks != "":
		return &hinted{fmt.Errorf("%w: %s", err, looks), hint}
	case errors.Is(err, sni.ErrNotTLS):
		return &hinted{err, "a hello begins with 16 03; accepted are " + hexForms}
	}
	return err
}

// looksLike says what begins as b does, if it is known and no ClientHello, and what
// to do about it.
func looksLike(b []byte) (what, hint string) {
	const isNoTLS = "the client does not speak TLS on this port"
	for _, method := range []string{"GET ", "HEAD ", "POST ", "PUT ", "DELETE ", "OPTIONS ", "PATCH ", "CONNECT ", "TRACE ", "PRI "} {
		if bytes.HasPrefix(b, []byte(method)) {
			return "looks like HTTP in plain text", isNoTLS + "; https:// does"
		}
	}
	const cutIt = "list the sender in accept_proxy_from; to decode the hello here, cut the header off"
	switch {
	case bytes.HasPrefix(b, []byte("PROXY ")):
		return "a PROXY header, version 1, comes first", cutIt
	case bytes.HasPrefix(b, []byte("\r\n\r\n\x00\r\nQUIT\n")):
		return "a PROXY header, version 2, comes first", cutIt
	case bytes.HasPrefix(b, []byte("SSH-")):
		return "looks like SSH", isNoTLS
	case bytes.HasPrefix(b, []byte("EHLO ")), bytes.HasPrefix(b, []byte("HELO ")), bytes.HasPrefix(b, []byte("220 ")):
		return "looks like SMTP in plain text", isNoTLS + "; STARTTLS comes after some of it"
	case len(b) < 2 || b[1] != 3:
		return "", ""
	}
	switch b[0] {
	case 0x14:
		return "a ChangeCipherSpec record", "capture from the first byte of the connection"
	case 0x15:
		return "a TLS alert", "the side that sent it refused the handshake; the hello is what the client sent first"
	case 0x17:
		return "a record of application data", "capture from the first byte of the connection"
	case 0x16:
		if len(b) > 5 && b[5] == 2 {
			return "a ServerHello", "take the client's direction of the connection"
		}
	}
	return "", ""
}
