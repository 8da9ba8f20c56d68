package main

import "fmt"

// The names of what a ClientHello holds, as IANA registers them for TLS
// (https://www.iana.org/assignments/tls-parameters). What has none here is shown by
// its number.

// numeric is a value that has no name here, in the registry's notation of two bytes.
func numeric(v uint16) string { return fmt.Sprintf("0x%04x", v) }

// versionName is the name of a protocol version.
func versionName(v uint16) string {
	switch v {
	case 0x0300:
		return "SSL 3.0"
	case 0x0301:
		return "TLS 1.0"
	case 0x0302:
		return "TLS 1.1"
	case 0x0303:
		return "TLS 1.2"
	case 0x0304:
		return "TLS 1.3"
	}
	return numeric(v)
}

// groupName is the name of a group (registry TLS Supported Groups; RFC 8446 §4.2.7,
// RFC 7919, RFC 8734, draft-ietf-tls-ecdhe-mlkem).
func groupName(v uint16) string {
	switch v {
	case 0x0013:
		return "secp192r1"
	case 0x0015:
		return "secp224r1"
	case 0x0016:
		return "secp256k1"
	case 0x0017:
		return "secp256r1"
	case 0x0018:
		return "secp384r1"
	case 0x0019:
		return "secp521r1"
	case 0x001a:
		return "brainpoolP256r1"
	case 0x001b:
		return "brainpoolP384r1"
	case 0x001c:
		return "brainpoolP512r1"
	case 0x001d:
		return "x25519"
	case 0x001e:
		return "x448"
	case 0x001f:
		return "brainpoolP256r1tls13"
	case 0x0020:
		return "brainpoolP384r1tls13"
	case 0x0021:
		return "brainpoolP512r1tls13"
	case 0x0029:
		return "curveSM2"
	case 0x0100:
		return "ffdhe2048"
	case 0x0101:
		return "ffdhe3072"
	case 0x0102:
		return "ffdhe4096"
	case 0x0103:
		return "ffdhe6144"
	case 0x0104:
		return "ffdhe8192"
	case 0x0200:
		return "MLKEM512"
	case 0x0201:
		return "MLKEM768"
	case 0x0202:
		return "MLKEM1024"
	case 0x11eb:
		return "SecP256r1MLKEM768"
	case 0x11ec:
		return "X25519MLKEM768"
	case 0x11ed:
		return "SecP384r1MLKEM1024"
	case 0x6399:
		return "X25519Kyber768Draft00"
	}
	return numeric(v)
}

// signatureName is the name of a signature scheme (registry TLS SignatureScheme; RFC
// 8446 §4.2.3). The pairs of hash and algorithm that only TLS 1.2 knows (RFC 5246
// §7.4.1.4.1) have names after the same pattern.
func signatureName(v uint16) string {
	switch v {
	case 0x0201:
		return "rsa_pkcs1_sha1"
	case 0x0202:
		return "dsa_sha1"
	case 0x0203:
		return "ecdsa_sha1"
	case 0x0301:
		return "rsa_sha224"
	case 0x0302:
		return "dsa_sha224"
	case 0x0303:
		return "ecdsa_sha224"
	case 0x0401:
		return "rsa_pkcs1_sha256"
	case 0x0402:
		return "dsa_sha256"
	case 0x0403:
		return "ecdsa_secp256r1_sha256"
	case 0x0501:
		return "rsa_pkcs1_sha384"
	case 0x0502:
		return "dsa_sha384"
	case 0x0503:
		return "ecdsa_secp384r1_sha384"
	case 0x0601:
		return "rsa_pkcs1_sha512"
	case 0x0602:
		return "dsa_sha512"
	case 0x0603:
		return "ecdsa_secp521r1_sha512"
	case 0x0708:
		return "sm2sig_sm3"
	case 0x0804:
		return "rsa_pss_rsae_sha256"
	case 0x0805:
		return "rsa_pss_rsae_sha384"
	case 0x0806:
		return "rsa_pss_rsae_sha512"
	case 0x0807:
		return "ed25519"
	case 0x0808:
		return "ed448"
	case 0x0809:
		return "rsa_pss_pss_sha256"
	case 0x080a:
		return "rsa_pss_pss_sha384"
	case 0x080b:
		return "rsa_pss_pss_sha512"
	case 0x081a:
		return "ecdsa_brainpoolP256r1tls13_sha256"
	case 0x081b:
		return "ecdsa_brainpoolP384r1tls13_sha384"
	case 0x081c:
		return "ecdsa_brainpoolP512r1tls13_sha512"
	case 0x0904:
		return "mldsa44"
	case 0x0905:
		return "mldsa65"
	case 0x0906:
		return "mldsa87"
	}
	return numeric(v)
}
