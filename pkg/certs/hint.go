package certs

import (
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The names under which ACME clients write chain and key side by side.
const (
	chainNames = "fullchain.pem fullchain.cer cert.pem"
	keyNames   = "privkey.pem key.pem"
)

// noCertificateHint says what to name instead of certFile, which holds blocks and no
// certificate: a pattern finds the key of a certificate beside it as well.
func noCertificateHint(certFile string, blocks []*pem.Block) string {
	if keyBlock(blocks) == nil {
		return "name a file with the certificate and its chain in PEM"
	}
	if chain := beside(certFile, chainNames); chain != "" {
		return "it is a key; name it with its certificate: " + pair(chain, certFile)
	}
	return "it is a key; name it with its certificate: " + pair("FILE.pem", certFile)
}

// noKeyHint says where the key of certFile may be, which is not in keyFile.
func noKeyHint(certFile, keyFile string, blocks []*pem.Block) string {
	if certFile != keyFile {
		if holdsCertificate(blocks) {
			return "it is a certificate; name the file with the key"
		}
		return "name the file with the key of " + certFile
	}
	if key := beside(certFile, keyNames); key != "" {
		return "write " + pair(certFile, key)
	}
	name := strings.TrimSuffix(certFile, filepath.Ext(certFile)) + ".key"
	return fmt.Sprintf("write %s, or put the key into %s", pair(certFile, "FILE.pem"), name)
}

// beside returns the first of names, with spaces between, that is a file in the
// directory of file, or "".
func beside(file, names string) string {
	for name := range strings.FieldsSeq(names) {
		path := filepath.Join(filepath.Dir(file), name)
		if _, err := os.Stat(path); err == nil && path != file {
			return path
		}
	}
	return ""
}

// pair writes a certificate as the configuration has it.
func pair(cert, key string) string {
	return fmt.Sprintf("{ cert = %q, key = %q }", cert, key)
}
