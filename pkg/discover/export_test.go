package discover

import (
	"fmt"
	"time"
)

// NewWithPaths is New with other files than the system's.
func NewWithPaths(s Settings, hosts, resolvConf string) *Source {
	return newSource(s, paths{hosts: hosts, resolvConf: resolvConf})
}

// RetryAfter is what a source waits after failures.
func RetryAfter(failures int) time.Duration { return retryAfter(failures) }

// ResolvConf shows what a text in the form of resolv.conf(5) comes to.
func ResolvConf(text string) string {
	s := parseResolvConf([]byte(text))
	return fmt.Sprintf("%v %v ndots %d, %v, %d times, rotate %t", s.servers, s.search, s.ndots, s.timeout, s.attempts, s.rotate)
}
