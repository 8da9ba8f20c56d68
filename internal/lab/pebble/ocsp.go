package pebble

import (
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"time"

	"golang.org/x/crypto/ocsp"
)

// respond runs an OCSP responder (RFC 6960) that signs as Pebble's intermediate, and returns its URL.
func (a *Authority) respond() string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		asked, err := ocsp.ParseRequest(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		issuer, err := x509.ParseCertificate(a.ca.GetIntermediateCert(0).DER)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		response, err := ocsp.CreateResponse(issuer, issuer, ocsp.Response{
			Status: ocsp.Good, SerialNumber: asked.SerialNumber,
			ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(24 * time.Hour),
		}, a.ca.GetIntermediateKey(0))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/ocsp-response")
		_, _ = w.Write(response)
	}))
	a.t.Cleanup(s.Close)
	return s.URL
}
