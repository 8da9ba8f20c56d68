package config

import (
	"fmt"
	"strings"
)

func (w *writer) routeTLS(r *RouteTLS) {
	w.certificates(r.CertificateEntries)
	w.set("acme", r.ACME)
	w.set("default_certificate", r.DefaultCertificate)
	w.policy(r.Policy)
	if r.ALPNFromBackends {
		w.note("alpn: what the backends of the pool chose in their probes")
	} else {
		w.set("alpn", r.ALPN)
	}
	w.setOr("key_log", r.KeyLog.Path, "none")
}

func (w *writer) policy(p TLSPolicy) {
	w.set("min_version", versionText(p.MinVersion))
	w.set("max_version", versionText(p.MaxVersion))
	w.set("profile", string(p.Profile))
	w.set("curves", curveNames(p.Curves))
	w.setOr("client_ca", p.ClientCA.Path, "none")
	w.set("client_auth", string(p.ClientAuth))
	if p.ClientAuth == ClientAuthNone {
		return
	}
	w.set("client_names", p.ClientNames)
	w.setOr("crl", p.CRL.Path, "none")
}

func (w *writer) tickets(t Tickets) {
	secret := ""
	if t.Secret.Path != "" {
		secret = "secret_file = " + quote(t.Secret.Path) + ", "
	}
	fmt.Fprintf(&w.b, "tickets = { %srotate = %s }\n", secret, quote(formatDuration(t.Rotate)))
}

func (w *writer) acme(a ACME) {
	w.setOr("email", a.Email, "none")
	w.set("directory", a.Directory)
	w.set("storage", a.Storage)
	w.setOr("ca", a.CA.Path, "the system's roots")
	if e := a.ExternalAccount; e == (ExternalAccount{}) {
		w.note("external_account: none")
	} else {
		fmt.Fprintf(&w.b, "external_account = { key_id = %s, hmac_key = %s }\n", quote(e.KeyID), w.secret(e.HMACKey))
	}
}

func (w *writer) http(h *RouteHTTP) {
	w.setOr("hsts", h.HSTS, "none")
	w.set("forwarded", h.Forwarded)
	w.set("trust_from", texts(h.TrustFrom))
	w.b.WriteString("deny = [")
	for _, rule := range h.Deny {
		var keys []string
		if rule.Path != "" {
			keys = append(keys, "path = "+quote(rule.Path))
		}
		if len(rule.Methods) > 0 {
			keys = append(keys, "methods = "+tomlValue(rule.Methods))
		}
		fmt.Fprintf(&w.b, "\n  { %s },", strings.Join(keys, ", "))
	}
	w.closeList(len(h.Deny))
	w.b.WriteString("redirects = [")
	for _, r := range h.Redirects {
		fmt.Fprintf(&w.b, "\n  { path = %s, to = %s, status = %d },", quote(r.Path), quote(r.To), r.Status)
	}
	w.closeList(len(h.Redirects))
	w.set("max_header", formatSize(h.MaxHeader))
	w.set("header_timeout", h.HeaderTimeout)
	w.set("keepalive", h.Keepalive)
	w.set("response_timeout", h.ResponseTimeout)
}

// closeList ends a list of n elements, each on a line of its own.
func (w *writer) closeList(n int) {
	if n > 0 {
		w.b.WriteByte('\n')
	}
	w.b.WriteString("]\n")
}

// paths returns the path of each file.
func paths(files []File) []string {
	out := make([]string, len(files))
	for i, f := range files {
		out[i] = f.Path
	}
	return out
}
