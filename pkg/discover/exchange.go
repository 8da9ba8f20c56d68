package discover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	// udpSize is the largest answer asked for over UDP, in bytes: no path fragments it.
	udpSize = 1232
	// udpBuffer holds answers of servers that do not keep to it.
	udpBuffer = 4096
)

// exchangeWith makes one attempt at one server: over UDP, and over TCP when the answer
// does not fit. An answer that is no use (SERVFAIL, REFUSED, a referral) is an error.
func exchangeWith(ctx context.Context, server, name string, kind uint16, timeout time.Duration) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(name, kind)
	q.SetEdns0(udpSize, false)
	deadline := time.Now().Add(timeout)
	m, err := roundTrip(ctx, "udp", server, q, deadline)
	if err == nil && m.Rcode == dns.RcodeFormatError { // knows no EDNS0 (RFC 6891 §7)
		q.Extra = nil
		m, err = roundTrip(ctx, "udp", server, q, deadline)
	}
	if err == nil && m.Truncated {
		m, err = roundTrip(ctx, "tcp", server, q, time.Now().Add(timeout))
		err = prefixed("over TCP, as the answer is too large", err)
	}
	switch {
	case err != nil:
		return nil, err
	case m.Truncated:
		return nil, errors.New("truncated also over TCP")
	case m.Rcode == dns.RcodeNameError:
		return m, nil
	case m.Rcode != dns.RcodeSuccess:
		if word, ok := dns.RcodeToString[m.Rcode]; ok {
			return nil, errors.New(word)
		}
		return nil, fmt.Errorf("response code %d", m.Rcode)
	case len(m.Answer) == 0 && !m.Authoritative && !m.RecursionAvailable && refers(m):
		return nil, errors.New("refers to other servers, resolves nothing itself")
	}
	return m, nil
}

// refers says that m names the servers of a zone in place of an answer.
func refers(m *dns.Msg) bool {
	for _, rr := range m.Ns {
		if rr.Header().Rrtype == dns.TypeNS {
			return true
		}
	}
	return false
}

// roundTrip sends q over a connection of its own and returns the answer. Over UDP the
// kernel lets only the server's own address through, and what else is no answer to q
// is passed over until the deadline: the true one may yet come.
func roundTrip(ctx context.Context, network, server string, q *dns.Msg, deadline time.Time) (*dns.Msg, error) {
	dialer := net.Dialer{Deadline: deadline}
	c, err := dialer.DialContext(ctx, network, server)
	if err != nil {
		return nil, plain(err)
	}
	defer c.Close()
	if err := c.SetDeadline(deadline); err != nil {
		return nil, plain(err)
	}
	// Whoever cancels is heard at once: this deadline is past.
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	conn := &dns.Conn{Conn: c, UDPSize: udpBuffer}
	if err := conn.WriteMsg(q); err != nil {
		return nil, plain(err)
	}
	for {
		p, err := conn.ReadMsgHeader(nil)
		if errors.Is(err, dns.ErrShortRead) && network == "udp" {
			continue
		}
		if err != nil {
			return nil, plain(err)
		}
		m := new(dns.Msg)
		// What is cut off may be cut within a record.
		if err := m.Unpack(p); (err == nil || m.Truncated) && answers(m, q) {
			return m, nil
		}
		if network != "udp" {
			return nil, errors.New("answer to another question")
		}
	}
}

// answers says that m is an answer to q (RFC 5452 §9.1). One with a response code
// other than success may come without the question.
func answers(m, q *dns.Msg) bool {
	if m.Id != q.Id || !m.Response || m.Opcode != dns.OpcodeQuery {
		return false
	}
	if len(m.Question) == 0 {
		return m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError
	}
	a, b := m.Question[0], q.Question[0]
	return len(m.Question) == 1 && a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}

// plain is err without the addresses and ports, of which ours is another each time.
func plain(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return errTimeout
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op.Err
	}
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		err = call.Err
	}
	return err
}
