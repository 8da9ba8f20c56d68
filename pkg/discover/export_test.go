package discover

import "time"

// NewWithPaths is New with other files than the system's.
func NewWithPaths(s Settings, hosts, resolvConf string) *Source {
	return newSource(s, paths{hosts: hosts, resolvConf: resolvConf})
}

// RetryAfter is what a source waits after failures.
func RetryAfter(failures int) time.Duration { return retryAfter(failures) }
