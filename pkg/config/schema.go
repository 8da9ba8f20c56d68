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
	routeTimesTable  = "routes.timeouts"
	poolTable        = "pools.NAME"
	backendTable     = "pools.NAME.backends"
	queueTable       = "pools.NAME.queue"
	poolTLSTable     = "pools.NAME.tls"
	healthTable      = "pools.NAME.health"
	ejectTable       = "pools.NAME.eject"
	discoverTable    = "pools.NAME.discover"
	certificateTable = "tls.certificates"
	tlsTable         = "tls"
	timeoutsTable    = "timeouts"
	limitsTable      = "limits"
	logTable         = "log"
)

// keysOf returns the keys that a table may have, in the order of the reference.
func keysOf(table string) []string {
	switch table {
	case rootTable:
		return []string{"include", "listeners", "routes", "pools", "tls", "timeouts", "limits", "log"}
	case listenerTable:
		return []string{"address", "accept_proxy_from"}
	case routeTable:
		return []string{"name", "hosts", "alpn", "from", "deny_from", "listeners", "mode", "pool", "backends", "max_connections", "tls", "timeouts"}
	case routeTLSTable:
		return []string{"certificates", "default_certificate", "min_version", "alpn"}
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
		return []string{"server_name", "ca", "insecure_skip_verify", "cert", "key"}
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
		return []string{"certificates"}
	case timeoutsTable:
		return []string{"hello", "handshake", "idle", "fin", "keepalive", "unacked", "drain"}
	case limitsTable:
		return []string{"loops", "max_connections", "max_hello", "max_hellos", "max_hellos_per_ip", "max_handshakes", "per_ip_connections", "per_ip_rate", "except"}
	case logTable:
		return []string{"level", "format", "access"}
	}
	panic(fmt.Sprintf("config: no table %q", table))
}

// tables returns the names of all tables, in the order of the reference.
func tables() []string {
	return []string{
		rootTable, listenerTable, routeTable, routeTLSTable, routeTimesTable,
		poolTable, backendTable, queueTable, poolTLSTable, healthTable, ejectTable, discoverTable,
		tlsTable, certificateTable, timeoutsTable, limitsTable, logTable,
	}
}

// unknownKeyHint says what somebody who wrote key in table may have meant.
func unknownKeyHint(table, key string) string {
	known := keysOf(table)
	if s := nearest(key, known); s != "" {
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
	case queueTable:
		return "queue = {…}"
	case backendTable, certificateTable:
		key := table[strings.LastIndexByte(table, '.')+1:]
		return fmt.Sprintf("an entry {…} of %s", key)
	}
	return "[" + table + "]"
}

// nearest returns the candidate that key most likely is a misspelling of, or "".
func nearest(key string, candidates []string) string {
	best, least := "", max(1, min(3, len(key)/3))+1
	for _, c := range candidates {
		if d := distance(key, c); d < least {
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
