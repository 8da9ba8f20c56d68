package server

import (
	"time"

	"github.com/snicketlb/snicket/pkg/config"
)

// CheckWithSyslog is [Check] where syslog listens at another place, or does not.
func CheckWithSyslog(path, syslog string) config.Problems {
	_, problems := check(path, syslog)
	return problems
}

// RenewEvery sets how often certificates of ACME are looked at for renewal.
func (o *Options) RenewEvery(d time.Duration) { o.renewEvery = d }
