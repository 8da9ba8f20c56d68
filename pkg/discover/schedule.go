package discover

import "time"

// The times of a source.
const (
	// TTLFloor and TTLCeiling bound how long an answer counts: a TTL of 0 must not
	// become a flood of questions, and one of a day not an outage of a day.
	TTLFloor   = time.Second
	TTLCeiling = 5 * time.Minute
	// RetryCeiling is the longest wait after a failure; the first is a second, and
	// each further one twice the one before.
	RetryCeiling = 30 * time.Second
	// FamilyGrace is how long addresses of one family are waited for once the other
	// has come.
	FamilyGrace = time.Second
	// HostsPoll is when a name from /etc/hosts is looked for again.
	HostsPoll = 10 * time.Second
	// FilePoll is when a file is read again although no change was seen, and
	// UnwatchedPoll the same where it cannot be watched.
	FilePoll      = 30 * time.Second
	UnwatchedPoll = 2 * time.Second
)

// holdFor is how long an answer of this TTL counts.
func holdFor(ttl time.Duration) time.Duration { return min(max(ttl, TTLFloor), TTLCeiling) }

// retryAfter is how long to wait after this many failures in a row, at least 1.
func retryAfter(failures int) time.Duration {
	return min(time.Second<<min(failures-1, 10), RetryCeiling)
}
