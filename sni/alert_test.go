package sni_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"testing"

	"github.com/snicketlb/snicket/sni"
)

func TestAppendAlert(t *testing.T) {
	for _, tc := range []struct {
		name  string
		hello *sni.Hello
		alert sni.Alert
		want  string
	}{
		{"no hello", nil, sni.AlertDecodeError, "\x15\x03\x03\x00\x02\x02\x32"},
		{"TLS 1.3", &sni.Hello{LegacyVersion: 0x0303, Versions: []uint16{0x1a1a, 0x0304}}, sni.AlertUnrecognizedName, "\x15\x03\x03\x00\x02\x02\x70"},
		{"TLS 1.2", &sni.Hello{LegacyVersion: 0x0303}, sni.AlertAccessDenied, "\x15\x03\x03\x00\x02\x02\x31"},
		{"TLS 1.1", &sni.Hello{LegacyVersion: 0x0302}, sni.AlertInternalError, "\x15\x03\x02\x00\x02\x02\x50"},
		{"TLS 1.1 by supported_versions", &sni.Hello{LegacyVersion: 0x0303, Versions: []uint16{0x0302}}, sni.AlertProtocolVersion, "\x15\x03\x02\x00\x02\x02\x46"},
		{"TLS 1.0", &sni.Hello{LegacyVersion: 0x0301}, sni.AlertInternalError, "\x15\x03\x01\x00\x02\x02\x50"},
		{"SSL 3.0", &sni.Hello{LegacyVersion: 0x0300}, sni.AlertInternalError, "\x15\x03\x00\x00\x02\x02\x50"},
		{"a version of the future", &sni.Hello{LegacyVersion: 0x0399}, sni.AlertNoApplicationProtocol, "\x15\x03\x03\x00\x02\x02\x78"},
		{"a version of nothing", &sni.Hello{LegacyVersion: 0x0002}, sni.AlertInternalError, "\x15\x03\x03\x00\x02\x02\x50"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := sni.AppendAlert([]byte("before"), tc.hello, tc.alert)
			if string(got) != "before"+tc.want {
				t.Errorf("got %q, want %q", got, "before"+tc.want)
			}
		})
	}
}

// TestAlertIsRead has a client of each version read each alert.
func TestAlertIsRead(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			config := &tls.Config{ServerName: "a.test", MinVersion: version, MaxVersion: version}
			first := &script{in: bytes.NewReader(nil)}
			if err := tls.Client(first, config).Handshake(); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			h, err := sni.Parse(first.out.Bytes(), 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, alert := range []sni.Alert{sni.AlertAccessDenied, sni.AlertDecodeError, sni.AlertInternalError, sni.AlertUnrecognizedName, sni.AlertNoApplicationProtocol} {
				for _, hello := range []*sni.Hello{h, nil} {
					conn := &script{in: bytes.NewReader(sni.AppendAlert(nil, hello, alert))}
					err := tls.Client(conn, config).Handshake()
					if want := "remote error: " + tls.AlertError(alert).Error(); err == nil || err.Error() != want {
						t.Errorf("the client says %v, want %s", err, want)
					}
				}
			}
		})
	}
}

// TestAlertNames takes the names from the registry of IANA, "TLS Alerts".
func TestAlertNames(t *testing.T) {
	for alert, want := range map[sni.Alert]string{
		0: "close_notify", 10: "unexpected_message", 22: "record_overflow", 40: "handshake_failure",
		47: "illegal_parameter", 49: "access_denied", 50: "decode_error", 70: "protocol_version",
		71: "insufficient_security", 80: "internal_error", 90: "user_canceled",
		112: "unrecognized_name", 120: "no_application_protocol", 255: "alert(255)",
	} {
		if got := alert.String(); got != want {
			t.Errorf("Alert(%d): got %s, want %s", uint8(alert), got, want)
		}
	}
}
