package server

import "time"

// RenewEvery sets how often certificates of ACME are looked at for renewal.
func (o *Options) RenewEvery(d time.Duration) { o.renewEvery = d }
