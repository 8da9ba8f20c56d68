package config

import (
	"fmt"
	"slices"
	"strings"
)

// The tables of a file, each with its keys, under the name the reference has them.
// A table that is not here takes any key (names chosen by the operator).
const (
	rootTable        = ""
	listenerTable    = "listeners.NAME"
	routeTable       = "routes"
	routeTLSTable    = "routes.tls"
	httpTable        = "routes.http"
	denyTable        = "routes.http.deny"
	redirectTable    = "routes.http.redirects"
	routeTimesTable  = "routes.timeouts"
	poolTable        = "pools.NAME"
	backendTable     = "pools.NAME.backends"
	queueTable       = "pools.NAME.queue"
	poolTLSTable     = "pools.NAME.tls"
	healthTable      = "pools.NAME.health"
	ejectTable       = "pools.NAME.eject"
	discoverTable    = "pools.NAME.discover"
	tlsTable         = "tls"
	certificateTable = "tls.certificates"
	ticketsTable     = "tls.tickets"
	acmeTable        = "acme"
	externalTable    = "acme.external_account"
	timeoutsTable    = "timeouts"
	limitsTable      = "limits"
	adminTable       = "admin"
	logTable         = "log"
)

// keysOf returns the keys that a table may have, in the order of the reference.
func keysOf(table string) []string {
	switch table {
	case rootTable:
		return []string{"include", "watch", "listeners", "routes", "pools", "tls", "acme", "timeouts", "limits", "admin", "log"}
	case listenerTable:
		return []string{"address", "kind", "https_port", "accept_proxy_from"}
	case routeTable:
		return []string{
			"name", "hosts", "alpn", "from", "deny_from", "listeners", "mode", "pool", "backends", "max_connections", "sorry",
			"tls", "http", "timeouts",
		}
	case routeTLSTable:
		return slices.Concat([]string{"certificates", "acme", "default_certificate"}, policyKeys(), []string{"alpn", "key_log"})
	case httpTable:
		return []string{
			"hsts", "forwarded", "trust_from", "deny", "redirects", "max_header", "header_timeout", "keepalive", "response_timeout",
		}
	case denyTable:
		return []string{"path", "methods"}
	case redirectTable:
		return []string{"path", "to", "status"}
	case routeTimesTable:
		return []string{"idle", "fin", "handshake"}
	case poolTable:
		return []string{
			"backends", "balance", "proxy_protocol", "proxy_tlvs", "dial_timeout", "retries", "panic_below", "on_down", "slow_start",
			"queue", "source_addresses", "tls", "health", "eject", "discover",
		}
	case backendTable:
		return []string{"address", "name", "weight", "backup", "max_connections"}
	case queueTable:
		return []string{"size", "timeout"}
	case poolTLSTable:
		return []string{"server_name", "ca", "insecure_skip_verify", "cert", "key", "session_cache"}
	case healthTable:
		return []string{
			"enabled", "kind", "path", "host", "method", "headers", "expect_status", "expect_body", "service", "preset", "send", "expect",
			"port", "tls", "server_name", "verify", "ca", "interval", "interval_down", "jitter", "timeout", "rise", "fall",
		}
	case ejectTable:
		return []string{"failures", "ratio", "window", "minimum", "for", "max", "max_ejected"}
	case discoverTable:
		return []string{"dns", "srv", "file", "resolvers"}
	case certificateTable:
		return []string{"cert", "key"}
	case tlsTable:
		return slices.Concat([]string{"certificates"}, policyKeys(), []string{"ech_keys", "tickets"})
	case ticketsTable:
		return []string{"secret_file", "rotate"}
	case acmeTable:
		return []string{"email", "directory", "storage", "ca", "external_account"}
	case externalTable:
		return []string{"key_id", "hmac_key"}
	case timeoutsTable:
		return []string{"hello", "handshake", "idle", "fin", "keepalive", "unacked", "drain", "shutdown_delay"}
	case limitsTable:
		return []string{"loops", "max_connections", "max_hello", "max_hellos", "max_hellos_per_ip", "max_handshakes", "per_ip_connections", "per_ip_rate", "except"}
	case adminTable:
		return []string{"socket", "mode", "group", "address"}
	case logTable:
		return []string{"level", "format", "access", "sample"}
	}
	panic(fmt.Sprintf("config: no table %q", table))
}

// policyKeys are those of a TLSPolicy, in [tls] and [routes.tls].
func policyKeys() []string {
	return []string{"min_version", "max_version", "profile", "curves", "client_ca", "client_auth", "client_names", "crl"}
}

// tables returns the names of all tables, in the order of the reference.
func tables() []string {
	return []string{
		rootTable, listenerTable, routeTable, routeTLSTable, httpTable, denyTable, redirectTable, routeTimesTable,
		poolTable, backendTable, queueTable, poolTLSTable, healthTable, ejectTable, discoverTable,
		tlsTable, certificateTable, ticketsTable, acmeTable, externalTable, timeoutsTable, limitsTable, adminTable, logTable,
	}
}

// unknownKeyHint says what somebody who wrote key in table may have meant.
func unknownKeyHint(table, key string) string {
	known := keysOf(table)
	if s := Nearest(key, known); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	if table != rootTable && key == "include" {
		return "include stands at the top of the file, above the first [table]"
	}
	var homes []string
	for _, t := range tables() {
		if t != rootTable && slices.Contains(keysOf(t), key) {
			homes = append(homes, bracketed(t))
		}
	}
	if len(homes) > 0 && len(homes) <= 3 {
		return fmt.Sprintf("it belongs to %s", strings.Join(homes, " or "))
	}
	return "known here: " + strings.Join(known, ", ")
}

// bracketed returns the header that opens a table.
func bracketed(table string) string {
	switch table {
	case routeTable:
		return "[[routes]]"
	case queueTable, ticketsTable, externalTable:
		return lastOf(table) + " = {…}"
	case backendTable, certificateTable, denyTable, redirectTable:
		return fmt.Sprintf("an entry {…} of %s", lastOf(table))
	}
	return "[" + table + "]"
}

// lastOf returns the last part of a dotted name.
func lastOf(table string) string { return table[strings.LastIndexByte(table, '.')+1:] }

// Nearest returns the candidate that word most likely is a misspelling of, or "" when none
// is near enough.
func Nearest(word string, candidates []string) string {
	best, least := "", max(1, min(3, len(word)/3))+1
	for _, c := range candidates {
		if d := distance(word, c); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance is the number of letters to insert, delete, replace or swap with their
// neighbour to make b of a (optimal string alignment).
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
