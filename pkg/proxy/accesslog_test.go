package proxy

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net/netip"
	"testing"
	"time"
)

// fullRecord has a value of its own in each field.
func fullRecord() *Record {
	r := &Record{
		Time:      time.Date(2026, 3, 4, 5, 6, 7, 8_999_000, time.FixedZone("", 3600)),
		ID:        0x0123456789abcdef,
		Listener:  "https",
		Client:    netip.MustParseAddrPort("192.0.2.7:40000"),
		Peer:      netip.MustParseAddrPort("[2001:db8::1]:50000"),
		SNI:       "www.example.com",
		ALPN:      "h2",
		Route:     "shop",
		Mode:      Terminate,
		Routed:    true,
		Pool:      "web",
		Backend:   "10.0.1.5:8080",
		Outcome:   OK,
		BytesIn:   517,
		BytesOut:  1 << 40,
		Hello:     1500 * time.Microsecond,
		Dial:      0,
		Handshake: 12*time.Millisecond + 34*time.Microsecond + 999,
		Duration:  2 * time.Minute,

		TLSVersion: tls.VersionTLS13,
		Cipher:     tls.TLS_AES_128_GCM_SHA256,
		ClientCN:   "Ann O'Nym",
		Resumed:    true,
		Retries:    1,
		Queue:      -1,
		EndedBy:    ByClient,
		Requests:   3,
		Bytes:      true,
	}
	copy(r.JA4[:], "t13d1516h2_8daaf6152771_b0da82dd1658")
	return r
}

// bareRecord is a record of a client that sent no hello.
func bareRecord() *Record {
	return &Record{
		Time: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), ID: 1, Listener: "-",
		Outcome: HelloTimeout, Error: "no hello in 5s\n", Bytes: true,
		Hello: -1, Dial: -1, Handshake: -1, Queue: -1, Duration: 5 * time.Second, Requests: -1,
	}
}

func TestAppendRecord(t *testing.T) {
	hostile := bareRecord()
	hostile.SNI, hostile.ALPN, hostile.ClientCN = "-", "h2 \xff\" outcome=ok", "a\x1b[2J\u2028"
	hostile.Listener, hostile.Error = "two words", ""
	for _, tc := range []struct {
		name   string
		record *Record
		format LogFormat
		want   string
	}{
		{
			"full text", fullRecord(), TextLog,
			`time=2026-03-04T04:06:07.008Z id=0123456789abcdef listener=https client=192.0.2.7:40000 ` +
				`peer=[2001:db8::1]:50000 sni="www.example.com" alpn="h2" ja4=t13d1516h2_8daaf6152771_b0da82dd1658 ` +
				`route=shop mode=terminate pool=web backend=10.0.1.5:8080 outcome=ok error=- bytes_in=517 ` +
				`bytes_out=1099511627776 hello_ms=1.500 dial_ms=0.000 handshake_ms=12.034 duration_ms=120000.000 ` +
				`tls_version=1.3 cipher=TLS_AES_128_GCM_SHA256 client_cn="Ann O'Nym" resumed=true retries=1 ` +
				`queue_ms=- ended_by=client requests=3 client_verify=-`,
		},
		{
			"full json", fullRecord(), JSONLog,
			`{"time":"2026-03-04T04:06:07.008Z","id":"0123456789abcdef","listener":"https","client":"192.0.2.7:40000",` +
				`"peer":"[2001:db8::1]:50000","sni":"www.example.com","alpn":"h2","ja4":"t13d1516h2_8daaf6152771_b0da82dd1658",` +
				`"route":"shop","mode":"terminate","pool":"web","backend":"10.0.1.5:8080","outcome":"ok","error":"","bytes_in":517,` +
				`"bytes_out":1099511627776,"hello_ms":1.500,"dial_ms":0.000,"handshake_ms":12.034,"duration_ms":120000.000,` +
				`"tls_version":"1.3","cipher":"TLS_AES_128_GCM_SHA256","client_cn":"Ann O'Nym","resumed":true,"retries":1,` +
				`"queue_ms":null,"ended_by":"client","requests":3,"client_verify":""}`,
		},
		{
			"bare text", bareRecord(), TextLog,
			`time=2026-03-04T05:06:07.000Z id=0000000000000001 listener="-" client=- peer=- sni=- alpn=- ja4=- route=- ` +
				`mode=- pool=- backend=- outcome=hello-timeout error="no hello in 5s\n" bytes_in=0 bytes_out=0 hello_ms=- ` +
				`dial_ms=- handshake_ms=- duration_ms=5000.000 tls_version=- cipher=- client_cn=- resumed=- retries=0 ` +
				`queue_ms=- ended_by=- requests=- client_verify=-`,
		},
		{
			"bare json", bareRecord(), JSONLog,
			`{"time":"2026-03-04T05:06:07.000Z","id":"0000000000000001","listener":"-","client":"","peer":"","sni":"",` +
				`"alpn":"","ja4":"","route":"","mode":"","pool":"","backend":"","outcome":"hello-timeout",` +
				`"error":"no hello in 5s\u000a","bytes_in":0,"bytes_out":0,"hello_ms":null,"dial_ms":null,"handshake_ms":null,` +
				`"duration_ms":5000.000,"tls_version":"","cipher":"","client_cn":"","resumed":null,"retries":0,` +
				`"queue_ms":null,"ended_by":"","requests":null,"client_verify":""}`,
		},
		{
			"foreign text breaks no line", hostile, TextLog,
			`time=2026-03-04T05:06:07.000Z id=0000000000000001 listener="two words" client=- peer=- sni="-" ` +
				`alpn="h2 \xff\" outcome=ok" ja4=- route=- mode=- pool=- backend=- outcome=hello-timeout error=- bytes_in=0 ` +
				`bytes_out=0 hello_ms=- dial_ms=- handshake_ms=- duration_ms=5000.000 tls_version=- cipher=- ` +
				`client_cn="a\x1b[2J\u2028" resumed=- retries=0 queue_ms=- ended_by=- requests=- client_verify=-`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := string(appendRecord(nil, tc.record, tc.format)); got != tc.want+"\n" {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestAppendRecordJSONIsJSON(t *testing.T) {
	r := bareRecord()
	r.ALPN, r.Error = "\x00\"\\\u2028\xff", "\x7f\ttab"
	var got struct {
		ALPN, Error string
		Retries     *int
		HelloMS     *float64 `json:"hello_ms"`
	}
	if err := json.Unmarshal(appendRecord(nil, r, JSONLog), &got); err != nil {
		t.Fatal(err)
	}
	if want := "\x00\"\\\u2028\ufffd"; got.ALPN != want || got.Error != r.Error {
		t.Errorf("got alpn %q, error %q; want %q, %q", got.ALPN, got.Error, want, r.Error)
	}
	if got.Retries == nil || *got.Retries != 0 || got.HelloMS != nil {
		t.Errorf("got retries %v, hello_ms %v; want 0, null", got.Retries, got.HelloMS)
	}
}

func TestCipherWord(t *testing.T) {
	for _, suite := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		if got, want := cipherWord(suite.ID), suite.Name; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestAppendRecordAllocates(t *testing.T) {
	r, b := fullRecord(), make([]byte, 0, 4096)
	for _, f := range []LogFormat{TextLog, JSONLog} {
		if got := testing.AllocsPerRun(100, func() { b = appendRecord(b[:0], r, f) }); got != 0 {
			t.Errorf("format %d: got %v allocations a record, want 0", f, got)
		}
	}
}

// countingWriter keeps what is written and counts the calls.
type countingWriter struct {
	bytes.Buffer
	calls int
}

func (w *countingWriter) Write(b []byte) (int, error) {
	w.calls++
	return w.Buffer.Write(b)
}

func TestAccessLogGathers(t *testing.T) {
	var out countingWriter
	l := NewAccessLog(&out, TextLog)
	l.Flush()
	l.Write(&Record{Outcome: NoHello}) // not a byte: no line
	l.Flush()
	if out.calls != 0 {
		t.Fatalf("got %d calls for nothing, want 0", out.calls)
	}
	l.Write(&Record{Outcome: NoHello, Bytes: true})
	l.Write(bareRecord())
	l.Flush()
	if got := bytes.Count(out.Bytes(), []byte("\n")); got != 2 || out.calls != 1 {
		t.Fatalf("got %d lines by %d calls, want 2 by 1", got, out.calls)
	}
	for out.calls == 1 { // without a Flush
		l.Write(bareRecord())
	}
	if got := out.Len(); got < accessBuffer {
		t.Errorf("got %d bytes, want a full buffer of %d", got, accessBuffer)
	}
}

// brokenWriter fails for as long as err is set.
type brokenWriter struct {
	countingWriter
	err error
}

func (w *brokenWriter) Write(b []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	return w.countingWriter.Write(b)
}

// What a writer refuses is gone, and does not come again with what follows.
func TestAccessLogKeepsNothingThatWasRefused(t *testing.T) {
	w := &brokenWriter{err: errors.New("no space left on device")}
	l := NewAccessLog(w, TextLog)
	l.Write(bareRecord())
	l.Flush()
	w.err = nil
	l.Write(fullRecord())
	l.Flush()
	if got, want := w.String(), string(appendRecord(nil, fullRecord(), TextLog)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAccessLogRedirect(t *testing.T) {
	var before, after bytes.Buffer
	l := NewAccessLog(&before, TextLog)
	l.Write(bareRecord())
	l.Redirect(&after, JSONLog)
	l.Write(fullRecord())
	l.Flush()
	if got, want := before.String(), string(appendRecord(nil, bareRecord(), TextLog)); got != want {
		t.Errorf("before: got %q, want %q", got, want)
	}
	if got, want := after.String(), string(appendRecord(nil, fullRecord(), JSONLog)); got != want {
		t.Errorf("after: got %q, want %q", got, want)
	}
}

func BenchmarkAppendRecord(b *testing.B) {
	r, line := fullRecord(), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		line = appendRecord(line[:0], r, TextLog)
	}
	b.SetBytes(int64(len(line)))
}
