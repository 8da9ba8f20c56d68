package proxy

import (
	"crypto/tls"
	"strings"

	"github.com/snicketlb/snicket/pkg/proxyheader"
)

// sslOf is the SSL TLV of a client's connection (PROXY protocol §2.2.6). Cipher
// names are OpenSSL's, as the specification's examples and other senders have it.
func sslOf(c *tls.ConnectionState) *proxyheader.SSL {
	ssl := &proxyheader.SSL{
		Version: strings.Replace(tls.VersionName(c.Version), "TLS ", "TLSv", 1),
		Cipher:  opensslCipher(tls.CipherSuiteName(c.CipherSuite)),
	}
	if len(c.PeerCertificates) > 0 {
		ssl.ClientCertificate = true
		ssl.CommonName = c.PeerCertificates[0].Subject.CommonName
		ssl.Verified = len(c.VerifiedChains) > 0
	}
	return ssl
}

// opensslCipher turns the IANA name of a TLS 1.2 suite into OpenSSL's; those of
// TLS 1.3 are the same.
func opensslCipher(name string) string {
	before, after, ok := strings.Cut(name, "_WITH_")
	if !ok {
		return name
	}
	after = strings.Replace(after, "AES_", "AES", 1)
	after = strings.Replace(after, "POLY1305_SHA256", "POLY1305", 1)
	return strings.ReplaceAll(strings.TrimPrefix(before, "TLS_")+"-"+after, "_", "-")
}
