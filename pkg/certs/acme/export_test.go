package acme

import "time"

// Loaders is how many files are read at a time to find challenges.
const Loaders = loaders

// AtATime bounds the hosts that are tried the first time.
func (o *Options) AtATime(orders int) { o.orders = orders }

// Reads bounds how long the storage may take for one name.
func (o *Options) Reads(d time.Duration) { o.reads = d }
