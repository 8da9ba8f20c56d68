package proxy

import (
	"crypto/tls"
	"io"
	"net/netip"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"
)

// LogFormat is how an [AccessLog] writes a record.
type LogFormat uint8

// The formats. Both have the same keys in the same order, one record a line.
//
// TextLog is key=value. What never came to pass is "-". The text of others (sni,
// alpn, error, client_cn, client_verify) is always quoted as Go's %q does, names of the
// configuration where they would not be one word otherwise.
//
// JSONLog is an object. What never came to pass is "" among the strings and null
// among the numbers and in resumed.
//
// Times in milliseconds have three decimals.
const (
	TextLog LogFormat = iota
	JSONLog
)

// accessBuffer is how much an AccessLog gathers before it writes by itself.
const accessBuffer = 64 << 10

// An AccessLog writes records to a writer, one a line, many whole lines by one call.
// What the writer cannot take is the writer's to lose and to count: a full disk ends
// no service.
//
// Write and Flush are what [Options] call Access and Flush. All methods may be
// called from any goroutine, and wait for a write that is under way: not from a
// loop. A writer that makes its callers wait delays the records behind, and the end
// of [Proxy.Run].
type AccessLog struct {
	mu     sync.Mutex // guards the fields below
	w      io.Writer
	format LogFormat
	buf    []byte
}

// NewAccessLog returns a log to w.
func NewAccessLog(w io.Writer, format LogFormat) *AccessLog {
	return &AccessLog{w: w, format: format}
}

// Write adds a record, which it does not keep. A client that left without a byte
// (a port scan, a TCP check) is none worth a line.
func (l *AccessLog) Write(r *Record) {
	if r.Outcome == NoHello && !r.Bytes {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = appendRecord(l.buf, r, l.format)
	if len(l.buf) >= accessBuffer {
		l.flushLocked()
	}
}

// Flush writes out what Write has gathered.
func (l *AccessLog) Flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushLocked()
}

// Redirect makes w and format those of all further records. The former writer gets
// what was written before and is not used again once Redirect has returned.
func (l *AccessLog) Redirect(w io.Writer, format LogFormat) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushLocked()
	l.w, l.format = w, format
}

func (l *AccessLog) flushLocked() {
	if len(l.buf) == 0 {
		return
	}
	_, _ = l.w.Write(l.buf) // the writer counts what it loses
	l.buf = l.buf[:0]
}

// appendRecord appends r as one line. It allocates nothing but b's growth.
func appendRecord(b []byte, r *Record, f LogFormat) []byte {
	e := lineEncoder{b: b, json: f == JSONLog}
	secured := r.TLSVersion != 0
	e.key("time").time(r.Time)
	e.key("id").id(r.ID)
	e.key("listener").name(r.Listener)
	e.key("client").address(r.Client)
	e.key("peer").address(r.Peer)
	e.key("sni").foreign(r.SNI)
	e.key("alpn").foreign(r.ALPN)
	e.key("ja4").ja4(&r.JA4)
	e.key("route").name(r.Route)
	e.key("mode").name(wordIf(r.Routed, r.Mode.String()))
	e.key("pool").name(r.Pool)
	e.key("backend").name(r.Backend)
	e.key("outcome").name(r.Outcome.String())
	e.key("error").foreign(r.Error)
	e.key("bytes_in").number(r.BytesIn)
	e.key("bytes_out").number(r.BytesOut)
	e.key("hello_ms").milliseconds(r.Hello)
	e.key("dial_ms").milliseconds(r.Dial)
	e.key("handshake_ms").milliseconds(r.Handshake)
	e.key("duration_ms").milliseconds(r.Duration)
	e.key("tls_version").name(versionWord(r.TLSVersion))
	e.key("cipher").name(cipherWord(r.Cipher))
	e.key("client_cn").foreign(r.ClientCN)
	e.key("resumed").boolean(secured, r.Resumed)
	e.key("retries").number(int64(r.Retries))
	e.key("queue_ms").milliseconds(r.Queue)
	e.key("ended_by").name(r.EndedBy.String())
	e.key("requests").count(r.Requests)
	e.key("client_verify").foreign(r.ClientVerify)
	return e.end()
}

func wordIf(ok bool, word string) string {
	if ok {
		return word
	}
	return ""
}

func versionWord(v uint16) string {
	switch v {
	case 0:
		return ""
	case tls.VersionTLS12:
		return "1.2"
	case tls.VersionTLS13:
		return "1.3"
	}
	return tls.VersionName(v)
}

// cipherWord is the suite's name in the IANA registry. Those that a terminated
// session can have are here by name because tls.CipherSuiteName allocates.
func cipherWord(c uint16) string {
	switch c {
	case 0:
		return ""
	case tls.TLS_AES_128_GCM_SHA256:
		return "TLS_AES_128_GCM_SHA256"
	case tls.TLS_AES_256_GCM_SHA384:
		return "TLS_AES_256_GCM_SHA384"
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		return "TLS_CHACHA20_POLY1305_SHA256"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:
		return "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
	case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:
		return "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:
		return "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
	case tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"
	case tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
		return "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"
	case tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		return "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
	}
	return tls.CipherSuiteName(c)
}

// A lineEncoder appends keys and values in one of the formats.
type lineEncoder struct {
	b     []byte
	json  bool
	begun bool
}

func (e *lineEncoder) key(k string) *lineEncoder {
	switch {
	case e.json && e.begun:
		e.b = append(e.b, ',', '"')
	case e.json:
		e.b = append(e.b, '{', '"')
	case e.begun:
		e.b = append(e.b, ' ')
	}
	e.begun = true
	e.b = append(e.b, k...)
	if e.json {
		e.b = append(e.b, '"', ':')
	} else {
		e.b = append(e.b, '=')
	}
	return e
}

func (e *lineEncoder) end() []byte {
	if e.json {
		e.b = append(e.b, '}')
	}
	return append(e.b, '\n')
}

// empty is a value that never came to pass: a string, or a number.
func (e *lineEncoder) empty(null string) {
	if !e.json {
		null = "-"
	}
	e.b = append(e.b, null...)
}

// quote opens and closes a string that needs no escapes.
func (e *lineEncoder) quote() {
	if e.json {
		e.b = append(e.b, '"')
	}
}

// time appends RFC 3339 in UTC with milliseconds. AppendFormat would read its layout
// anew for each record, at a tenth of the record's cost.
func (e *lineEncoder) time(t time.Time) {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	e.quote()
	e.digits(year/100, 2)
	e.digits(year, 2)
	e.b = append(e.b, '-')
	e.digits(int(month), 2)
	e.b = append(e.b, '-')
	e.digits(day, 2)
	e.b = append(e.b, 'T')
	e.digits(hour, 2)
	e.b = append(e.b, ':')
	e.digits(minute, 2)
	e.b = append(e.b, ':')
	e.digits(second, 2)
	e.b = append(e.b, '.')
	e.digits(t.Nanosecond()/1e6, 3)
	e.b = append(e.b, 'Z')
	e.quote()
}

// digits appends the last two or three digits of v.
func (e *lineEncoder) digits(v, n int) {
	if n == 3 {
		e.b = append(e.b, byte('0'+v/100%10))
	}
	e.b = append(e.b, byte('0'+v/10%10), byte('0'+v%10))
}

func (e *lineEncoder) id(id SessionID) {
	e.quote()
	e.b = id.Append(e.b)
	e.quote()
}

func (e *lineEncoder) address(a netip.AddrPort) {
	if !a.IsValid() {
		e.empty(`""`)
		return
	}
	e.quote()
	e.b = a.AppendTo(e.b)
	e.quote()
}

func (e *lineEncoder) ja4(f *[36]byte) {
	if f[0] == 0 {
		e.empty(`""`)
		return
	}
	e.quote()
	e.b = append(e.b, f[:]...)
	e.quote()
}

// name is a word of ours or of the configuration.
func (e *lineEncoder) name(s string) {
	switch {
	case s == "":
		e.empty(`""`)
	case e.json:
		e.b = appendJSONString(e.b, s)
	case isWord(s):
		e.b = append(e.b, s...)
	default:
		e.b = strconv.AppendQuote(e.b, s)
	}
}

// foreign is the text of somebody else.
func (e *lineEncoder) foreign(s string) {
	switch {
	case s == "":
		e.empty(`""`)
	case isPlain(s):
		e.b = append(e.b, '"')
		e.b = append(e.b, s...)
		e.b = append(e.b, '"')
	case e.json:
		e.b = appendJSONString(e.b, s)
	default:
		e.b = strconv.AppendQuote(e.b, s)
	}
}

func (e *lineEncoder) number(n int64) { e.b = strconv.AppendInt(e.b, n, 10) }

// count appends n; a negative one never came to pass.
func (e *lineEncoder) count(n int) {
	if n < 0 {
		e.empty("null")
		return
	}
	e.number(int64(n))
}

func (e *lineEncoder) boolean(known, v bool) {
	if !known {
		e.empty("null")
		return
	}
	e.b = strconv.AppendBool(e.b, v)
}

// milliseconds appends d with three decimals; a negative d never came to pass.
func (e *lineEncoder) milliseconds(d time.Duration) {
	if d < 0 {
		e.empty("null")
		return
	}
	us := d.Microseconds()
	e.b = strconv.AppendInt(e.b, us/1000, 10)
	e.b = append(e.b, '.')
	e.digits(int(us%1000), 3)
}

// isPlain reports whether s stands in quotes as it is, in either format.
func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// isWord reports whether s stands by itself in a line of text.
func isWord(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '=' || c == '\\' {
			return false
		}
	}
	return s != "-"
}

// appendJSONString appends s as a JSON string (RFC 8259 §7); bytes that are no UTF-8
// become U+FFFD.
func appendJSONString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r < ' ' || r == 0x7f:
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&15])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
