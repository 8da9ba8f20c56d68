package health

import "regexp"

// The names that [Preset] knows.
const (
	PresetPostgres = "postgres"
	PresetMySQL    = "mysql"
	PresetRedis    = "redis"
	PresetSMTP     = "smtp"
	PresetIMAP     = "imap"
	PresetLDAP     = "ldap"
)

// Presets returns the names that [Preset] knows.
func Presets() []string {
	return []string{PresetPostgres, PresetMySQL, PresetRedis, PresetSMTP, PresetIMAP, PresetLDAP}
}

// Preset returns the exchange by which a server of a protocol shows that it
// serves, without address, and whether there is one of that name. None needs an
// account, none leaves a broken connection for the server to log or to hold
// against the balancer's address. A server that refuses the probe's user, but
// clients in general not, passes.
//
//   - postgres: a StartupMessage for user and database "postgres", as pg_isready
//     sends. Being asked for a password passes, and so does a refusal of class 28
//     (authorization) or 3D (no such database). "The database system is starting
//     up" (57P03) and "too many clients" (53300) fail.
//   - mysql: the server's greeting, protocol 10, by MySQL, MariaDB and Percona. It
//     is answered with a user that does not exist, as a connection that ends
//     before the answer counts towards max_connect_errors, which would block the
//     balancer. "Too many connections" and "Host is blocked" fail.
//   - redis: PING; +PONG passes, and so do the errors NOAUTH and NOPERM. LOADING,
//     MASTERDOWN and DENIED (protected mode) fail.
//   - smtp: the greeting 220, waited for as RFC 5321 §3.1 demands, then QUIT.
//   - imap: the greeting OK or PREAUTH (RFC 3501 §7.1), then LOGOUT.
//   - ldap: an anonymous simple bind (RFC 4511 §4.2); success passes, and so do the
//     refusals 8, 13 and 48 of a server that wants more than that.
func Preset(name string) (Exchange, bool) {
	switch name {
	case PresetPostgres:
		return Exchange{Send: postgresStartup("postgres"), Expect: regexp.MustCompile(`^(?:R|E(?s:.*)\x00C(?:28|3D))`)}, true
	case PresetMySQL:
		return Exchange{Expect: regexp.MustCompile(`^(?s:.)\x00\x00\x00\x0a`), Bye: mysqlLogin("snicket-health")}, true
	case PresetRedis:
		// QUIT goes along: an answer that does not match then ends at once.
		return Exchange{Send: []byte("PING\r\nQUIT\r\n"), Expect: regexp.MustCompile(`^(?:\+PONG|-NOAUTH|-NOPERM)`)}, true
	case PresetSMTP:
		return Exchange{Expect: regexp.MustCompile(`^(?:220-.*\r\n)*220[ \r]`), Bye: []byte("QUIT\r\n")}, true
	case PresetIMAP:
		return Exchange{Expect: regexp.MustCompile(`(?i)^\* (?:OK|PREAUTH)\b`), Bye: []byte("a LOGOUT\r\n")}, true
	case PresetLDAP:
		return Exchange{
			Send:   []byte("\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00"), // bind, version 3, no name, no password
			Expect: regexp.MustCompile(`^(?s:\x30.{1,5}?\x02\x01\x01\x61.{1,5}?\x0a\x01)[\x00\x08\x0d\x30]`),
			Bye:    []byte("\x30\x05\x02\x01\x02\x42\x00"), // unbind
		}, true
	}
	return Exchange{}, false
}

// postgresStartup returns a StartupMessage of protocol 3.0 (PostgreSQL, "Message
// Formats") for a user and the database of the same name.
func postgresStartup(user string) []byte {
	b := []byte("\x00\x00\x00\x00\x00\x03\x00\x00user\x00" + user + "\x00database\x00" + user + "\x00application_name\x00snicket-health\x00\x00")
	b[3] = byte(len(b))
	return b
}

// mysqlLogin returns a HandshakeResponse41 (MySQL, "Connection Phase Packets") of
// a user without a password.
func mysqlLogin(user string) []byte {
	const (
		longPassword     = 1 << 0
		protocol41       = 1 << 9
		secureConnection = 1 << 15
		capabilities     = longPassword | protocol41 | secureConnection
		utf8mb4          = 45
	)
	b := []byte{
		0, 0, 0, 1, // length, and number 1 as it answers number 0
		capabilities & 0xff, capabilities >> 8, 0, 0,
		0, 0, 0, 1, // packets of up to 16 MiB
		utf8mb4,
	}
	b = append(b, make([]byte, 23)...)
	b = append(b, user...)
	b = append(b, 0, 0) // end of the name, empty answer to the challenge
	b[0] = byte(len(b) - 4)
	return b
}
