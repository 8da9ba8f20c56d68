package config

// Limits of a backend's settings, for whoever reads backends from another place.
const (
	// MaxWeight is the largest weight of a backend; the least is 1.
	MaxWeight = maxWeight
	// MaxBackendConnections is the largest max_connections of a backend.
	MaxBackendConnections = maxCount
)

// ParseAddress reads the address of a backend by the rules of the configuration:
// "10.0.0.5:443", "[2001:db8::5]:443", "app.internal:443" or "unix:/path"; a relative
// path of a socket starts at dir. [Hint] of the error says what to write instead.
func ParseAddress(s, dir string) (Address, error) { return parseAddress(s, dir) }

// CheckBackendName says why name cannot be that of a backend, or returns nil. [Hint]
// of the error says what to write instead. The default name, the address, is always
// allowed and not asked about.
func CheckBackendName(name string) error { return checkName("backend", name) }

// Hint is what to do about an error of [ParseAddress] or [CheckBackendName]; "" if
// nothing is known.
func Hint(err error) string {
	_, hint := textAndHint(err)
	return hint
}

// BackendKeyHint says what somebody who wrote key in a backend's table may have meant.
func BackendKeyHint(key string) string { return unknownKeyHint(backendTable, key) }
