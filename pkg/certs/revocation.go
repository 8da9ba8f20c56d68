package certs

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// Why a certificate is refused by [Revocations.Check].
var (
	// ErrRevoked says that the issuer has taken the certificate back.
	ErrRevoked = errors.New("revoked")
	// ErrNoCRL says that nothing is known of the issuer's revocations.
	ErrNoCRL = errors.New("no CRL")
	// ErrCRLTime says that the issuer's list is not of this time: it should have
	// been replaced, or is not valid yet.
	ErrCRLTime = errors.New("CRL is not of this time")
)

// Revocations are what authorities have revoked, by their certificate revocation
// lists (RFC 5280 §5). They are immutable and safe for concurrent use.
type Revocations struct {
	file  string
	lists map[signer]*list
}

// signer tells authorities apart: one name may have had several keys.
type signer struct{ subject, key string }

func signerOf(c *x509.Certificate) signer {
	return signer{string(c.RawSubject), string(c.RawSubjectPublicKeyInfo)}
}

// list is the newest list of one authority.
type list struct {
	issuer   string
	from, to time.Time // to is zero where the list does not say
	serials  map[string]struct{}
}

// LoadRevocations reads the lists in file: one in DER, or any number in PEM
// (RFC 7468 §8). Each must be signed by one of issuers, the authorities that
// clients are verified against; of several by one authority the newest counts.
//
// It returns nil and the problems if the file cannot be read, holds no list that
// one of issuers has signed, or a list that is false or cannot be understood: a
// delta, an indirect one or one of a part of the certificates only, which critical
// extensions tell (RFC 5280 §5.2.4, §5.2.5). Otherwise the problems are warnings:
// lists of strangers, which are not used, and issuers without a list.
func LoadRevocations(file string, issuers []*x509.Certificate) (*Revocations, []Problem) {
	lists, problem := readCRLs(file)
	if problem != nil {
		return nil, []Problem{*problem}
	}
	r := &Revocations{file: file, lists: map[signer]*list{}}
	var problems []Problem
	for i, crl := range lists {
		p := r.add(i+1, crl, issuers)
		if p == nil {
			continue
		}
		if problems = append(problems, *p); !p.Warning {
			return nil, []Problem{*p}
		}
	}
	if len(r.lists) == 0 {
		return nil, []Problem{{
			File: file, Text: fmt.Sprintf("holds no CRL of a client authority, but of %q", lists[0].Issuer),
			Hint: "add the certificate of who issued it to client_ca, or name that authority's CRL",
		}}
	}
	for _, c := range issuers {
		if c.IsCA && r.lists[signerOf(c)] == nil {
			problems = append(problems, Problem{
				File: file, Warning: true, Text: fmt.Sprintf("no CRL of %q: what it has issued is refused", c.Subject),
				Hint: "add its CRL to the file",
			})
		}
	}
	return r, problems
}

// readCRLs parses the lists of a file, at least one.
func readCRLs(file string) ([]*x509.RevocationList, *Problem) {
	b, problem := NewLoader(nil).readFile(file)
	if problem != nil {
		return nil, problem
	}
	var ders [][]byte
	if block, _ := pem.Decode(b); block == nil && len(b) > 0 && b[0] == 0x30 { // a SEQUENCE (X.690 §8.9)
		ders = [][]byte{b}
	} else {
		blocks, problem := decodePEM(file, "X509 CRL", b)
		if problem != nil {
			return nil, problem
		}
		for _, block := range blocks {
			if block.Type == "X509 CRL" {
				ders = append(ders, block.Bytes)
			}
		}
	}
	if len(ders) == 0 {
		return nil, &Problem{File: file, Text: "holds no CRL", Hint: "make one with: openssl ca -gencrl"}
	}
	var lists []*x509.RevocationList
	for i, der := range ders {
		crl, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, &Problem{File: file, Text: fmt.Sprintf("CRL %d cannot be parsed: %v", i+1, err)}
		}
		lists = append(lists, crl)
	}
	return lists, nil
}

// add takes in the list number n of the file, unless a newer one of the same
// authority is there.
func (r *Revocations) add(n int, crl *x509.RevocationList, issuers []*x509.Certificate) *Problem {
	fault := func(format string, args ...any) *Problem {
		return &Problem{File: r.file, Text: fmt.Sprintf("CRL %d, of %q, ", n, crl.Issuer) + fmt.Sprintf(format, args...)}
	}
	issuer, err := signedBy(crl, issuers)
	switch {
	case err != nil:
		return fault("is not signed by that authority: %v", err)
	case issuer == nil:
		p := fault("is not used: no certificate of client_ca has that name")
		p.Warning, p.Hint = true, "add the certificate of who issued it to client_ca"
		return p
	}
	for _, e := range crl.Extensions {
		if e.Critical {
			p := fault("has the critical extension %v: it does not tell of all certificates", e.Id)
			p.Hint = "name the authority's full CRL"
			return p
		}
	}
	l := &list{issuer: issuer.Subject.String(), from: crl.ThisUpdate, to: crl.NextUpdate, serials: make(map[string]struct{}, len(crl.RevokedCertificateEntries))}
	for _, entry := range crl.RevokedCertificateEntries {
		for _, e := range entry.Extensions {
			if e.Critical {
				return fault("has entries with the critical extension %v: it tells of other authorities' certificates", e.Id)
			}
		}
		l.serials[serial(entry.SerialNumber)] = struct{}{}
	}
	if former := r.lists[signerOf(issuer)]; former == nil || former.from.Before(l.from) {
		r.lists[signerOf(issuer)] = l
	}
	return nil
}

// signedBy returns which of issuers has signed crl; nil if none has the issuer's
// name. The error says why those that have it did not sign it.
func signedBy(crl *x509.RevocationList, issuers []*x509.Certificate) (*x509.Certificate, error) {
	var why error
	for _, c := range issuers {
		if !bytes.Equal(c.RawSubject, crl.RawIssuer) {
			continue
		}
		if why = crl.CheckSignatureFrom(c); why == nil {
			return c, nil
		}
	}
	return nil, why
}

func serial(n *big.Int) string { return string(n.Bytes()) }

// Problems says which lists are not of the time now.
func (r *Revocations) Problems(now time.Time) []Problem {
	var problems []Problem
	for _, l := range r.lists {
		if err := l.valid(now); err != nil {
			problems = append(problems, Problem{
				File: r.file, Text: fmt.Sprintf("%v: what %q has issued is refused", err, l.issuer), Hint: "fetch the authority's current CRL",
			})
		}
	}
	slices.SortFunc(problems, func(a, b Problem) int { return cmp.Compare(a.Text, b.Text) })
	return problems
}

func (l *list) valid(now time.Time) error {
	switch {
	case now.Before(l.from):
		return fmt.Errorf("%w: that of %q is not valid before %s", ErrCRLTime, l.issuer, l.from.UTC().Format(time.RFC3339))
	case !l.to.IsZero() && now.After(l.to):
		return fmt.Errorf("%w: that of %q was to be replaced by %s", ErrCRLTime, l.issuer, l.to.UTC().Format(time.RFC3339))
	}
	return nil
}

// Check looks up the certificates of chains, leaf first and a trusted authority
// last, as [x509.Certificate.Verify] returns them. It is nil if at time now one
// chain is known to hold, from its leaf up to the authority, no certificate that is
// revoked, and no chain one that is. The error wraps [ErrRevoked], [ErrNoCRL] or
// [ErrCRLTime]: who cannot be told to be good is refused, since else to withhold a
// list would undo a revocation.
func (r *Revocations) Check(now time.Time, chains [][]*x509.Certificate) error {
	var why error
	known := false
	for _, chain := range chains {
		err := r.check(now, chain)
		if errors.Is(err, ErrRevoked) {
			return err
		}
		known, why = known || err == nil, cmp.Or(why, err)
	}
	switch {
	case known:
		return nil
	case why == nil: // there is no chain
		return ErrNoCRL
	}
	return why
}

// check is Check of one chain. A revoked certificate weighs more than a list that
// is missing or old.
func (r *Revocations) check(now time.Time, chain []*x509.Certificate) error {
	var why error
	for i, c := range chain[:max(len(chain)-1, 0)] {
		l := r.lists[signerOf(chain[i+1])]
		if l == nil {
			why = cmp.Or(why, fmt.Errorf("%w of its issuer %q", ErrNoCRL, c.Issuer))
			continue
		}
		if _, revoked := l.serials[serial(c.SerialNumber)]; revoked {
			if i > 0 {
				return fmt.Errorf("its authority %q is %w (serial %X)", c.Subject, ErrRevoked, c.SerialNumber)
			}
			return fmt.Errorf("%w (serial %X)", ErrRevoked, c.SerialNumber)
		}
		why = cmp.Or(why, l.valid(now))
	}
	return why
}
