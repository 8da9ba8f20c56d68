package health

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Certificate is what there is to watch about the certificate of a backend.
type Certificate struct {
	NotBefore, NotAfter time.Time

	// Names are the names and addresses it is valid for, in lower case, a wildcard
	// as "*.example.com". A common name is none, as no client looks at it.
	Names []string

	// Issuer is the distinguished name of who signed it: "CN=R11,O=Let's
	// Encrypt,C=US".
	Issuer string

	// Fingerprint is the SHA-256 of the chain as it was sent, in hexadecimal.
	Fingerprint string
}

// Certificate returns the certificate that the backend sent, and whether it sent
// one.
func (o Observation) Certificate() (Certificate, bool) {
	if len(o.Certificates) == 0 {
		return Certificate{}, false
	}
	leaf := o.Certificates[0]
	c := Certificate{NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Issuer: leaf.Issuer.String()}
	for _, name := range leaf.DNSNames {
		c.Names = append(c.Names, canonical(name))
	}
	for _, ip := range leaf.IPAddresses {
		c.Names = append(c.Names, ip.String())
	}
	sum := sha256.New()
	for _, each := range o.Certificates {
		sum.Write(each.Raw)
	}
	c.Fingerprint = hex.EncodeToString(sum.Sum(nil))
	return c, true
}

// DaysLeft returns for how many whole days from now on the certificate is valid,
// negative once it is not.
func (c *Certificate) DaysLeft(now time.Time) int {
	const day = 24 * time.Hour
	left := c.NotAfter.Sub(now)
	if left < 0 {
		left -= day - 1
	}
	return int(left / day)
}

// Covers reports whether the certificate is valid for what a route calls a host: a
// name, "*.example.com" or "**.example.com". Of the latter no certificate can cover
// more than one label, so that is enough. "*" and "-" are no names and covered by
// every certificate.
func (c *Certificate) Covers(host string) bool {
	host = canonical(host)
	if host == "*" || host == "-" {
		return true
	}
	host = strings.TrimPrefix(host, "*")
	if strings.HasPrefix(host, "*.") { // it was two
		return slices.Contains(c.Names, host)
	}
	if strings.HasPrefix(host, ".") {
		return slices.Contains(c.Names, "*"+host)
	}
	return slices.ContainsFunc(c.Names, func(name string) bool { return covers(name, host) })
}

// Warnings says in words what of a certificate wants attention: that it is out of
// date or will be within notice, and which of hosts, those of the routes to the
// backend, it does not cover. None of it takes a backend down: the client judges.
func (c *Certificate) Warnings(now time.Time, notice time.Duration, hosts []string) []string {
	var warnings []string
	switch {
	case now.Before(c.NotBefore):
		warnings = append(warnings, "certificate not valid before "+c.NotBefore.UTC().Format(time.RFC3339))
	case now.After(c.NotAfter):
		warnings = append(warnings, "certificate expired "+ago(now.Sub(c.NotAfter))+" ago")
	case c.NotAfter.Sub(now) < notice:
		warnings = append(warnings, "certificate expires in "+ago(c.NotAfter.Sub(now)))
	}
	var bare []string
	for _, host := range hosts {
		if !c.Covers(host) {
			bare = append(bare, host)
		}
	}
	if len(bare) > 0 {
		warnings = append(warnings, "certificate is valid for "+listed(c.Names)+", not for "+listed(bare))
	}
	return warnings
}

// Changed says in words how a certificate differs from the one before it; "" if it
// is the same chain.
func (c *Certificate) Changed(former *Certificate) string {
	if c.Fingerprint == former.Fingerprint {
		return ""
	}
	var parts []string
	if c.Issuer != former.Issuer {
		parts = append(parts, fmt.Sprintf("issuer %q, was %q", c.Issuer, former.Issuer))
	}
	if !slices.Equal(slices.Sorted(slices.Values(c.Names)), slices.Sorted(slices.Values(former.Names))) {
		parts = append(parts, "names "+listed(c.Names)+", were "+listed(former.Names))
	}
	if !c.NotAfter.Equal(former.NotAfter) {
		parts = append(parts, "expires "+c.NotAfter.UTC().Format(time.DateOnly)+", was "+former.NotAfter.UTC().Format(time.DateOnly))
	}
	if len(parts) == 0 {
		parts = append(parts, "same issuer, names and expiry")
	}
	return "certificate chain changed: " + strings.Join(parts, "; ")
}

// HostPool says that a host, as a route calls it, routes to a pool.
type HostPool struct{ Host, Pool string }

// Overlap is that a certificate of a pool covers a host that routes to another.
type Overlap struct {
	// Pool has the certificate, and Name is the name in it that covers Host.
	Pool, Name string

	// Host is the host as its route calls it, and Other the pool it routes to.
	Host, Other string
}

// String says what is wrong and why it matters.
func (o Overlap) String() string {
	return fmt.Sprintf("a certificate of pool %q covers %s (by %q), which routes to pool %q: over HTTP/2 a client may reuse its connection and reach the wrong pool",
		o.Pool, o.Host, o.Name, o.Other)
}

// Coalescing finds the certificates that lead HTTP/2 clients astray. A client that
// has a connection to one host sends requests for another over it if the
// certificate covers that too and the address is the same (RFC 9113 §9.1.1), and
// behind one balancer it is. The balancer, which saw the first name only, cannot
// know.
//
// names holds the names in the certificates that the backends of each pool were
// seen with; leave out pools whose clients never get HTTP/2. routes holds every
// host of one listener; a host that has several routes may stand there several
// times, and a pool among them is not astray. The result is sorted and holds one
// Overlap for each pool and host.
func Coalescing(names map[string][]string, routes []HostPool) []Overlap {
	hosts := make(map[string][]string, len(routes))
	for _, r := range routes {
		host := canonical(r.Host)
		hosts[host] = append(hosts[host], r.Pool)
	}
	var found []Overlap
	for pool, theirs := range names {
		seen := make(map[string]bool)
		// Those of many backends are mostly the same.
		for _, name := range slices.Compact(slices.Sorted(slices.Values(theirs))) {
			name = canonical(name)
			for _, host := range reached(name, hosts) {
				if pools := hosts[host]; !seen[host] && !slices.Contains(pools, pool) {
					seen[host] = true
					found = append(found, Overlap{Pool: pool, Name: name, Host: host, Other: slices.Min(pools)})
				}
			}
		}
	}
	slices.SortFunc(found, func(a, b Overlap) int {
		return cmp.Or(strings.Compare(a.Pool, b.Pool), strings.Compare(a.Host, b.Host))
	})
	return found
}

// reached returns the hosts of a route table that names covered by a certificate's
// name are routed by.
func reached(name string, hosts map[string][]string) []string {
	suffix, wild := strings.CutPrefix(name, "*")
	if !wild {
		return mostSpecific(name, hosts)
	}
	var out []string
	for host := range maps.Keys(hosts) {
		if !strings.HasPrefix(host, "*") && covers(name, host) {
			out = append(out, host)
		}
	}
	// Any other name that it covers is routed by a pattern.
	return append(out, mostSpecific("\x00"+suffix, hosts)...)
}

// mostSpecific returns the host that decides about a name, if there is one.
func mostSpecific(name string, hosts map[string][]string) []string {
	candidates := []string{name}
	for rest, stars := name, "*."; ; stars = "**." {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			break
		}
		candidates = append(candidates, stars+parent)
		if stars == "*." {
			candidates = append(candidates, "**."+parent)
		}
		rest = parent
	}
	for _, host := range append(candidates, "*") {
		if len(hosts[host]) > 0 {
			return []string{host}
		}
	}
	return nil
}

// covers reports whether a name in a certificate covers a host (RFC 6125 §6.4.3):
// a wildcard is one whole label, the first.
func covers(name, host string) bool {
	if suffix, wild := strings.CutPrefix(name, "*."); wild {
		_, parent, ok := strings.Cut(host, ".")
		return ok && parent == suffix
	}
	return name == host
}

func canonical(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// listed joins names, or the first of many.
func listed(names []string) string {
	const most = 5
	switch {
	case len(names) == 0:
		return "no name"
	case len(names) > most:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}
