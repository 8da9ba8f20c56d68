package pebble

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/letsencrypt/pebble/v2/core"
)

// renewalInfo answers when to renew a certificate (RFC 9773 §4), in front of Pebble.
func (a *Authority) renewalInfo(w http.ResponseWriter, r *http.Request, h http.Handler) {
	a.index(path.Base(r.URL.Path))
	if !a.renew {
		h.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	now := time.Now().UTC()
	_ = json.NewEncoder(w).Encode(map[string]any{
		"suggestedWindow": map[string]time.Time{"start": now.Add(-2 * time.Hour), "end": now.Add(-time.Hour)},
	})
}

// index has Pebble find the order of a certificate by the certificate's unique identifier,
// which holds its serial number as DER has it (RFC 9773 §4.1): behind a zero byte if its
// first bit is set. Pebble looks for that with the zero and keeps it without, so one
// certificate in 256 could not be replaced. A client asks when to renew before it does.
func (a *Authority) index(id string) {
	_, number, _ := strings.Cut(id, ".")
	serial, err := base64.RawURLEncoding.DecodeString(number)
	if err != nil || len(serial) < 2 || serial[0] != 0 {
		return
	}
	asked := hex.EncodeToString(serial)
	if _, err := a.store.GetOrderByIssuedSerial(asked); err == nil {
		return
	}
	order, err := a.store.GetOrderByIssuedSerial(hex.EncodeToString(serial[1:]))
	if err != nil {
		return // the client asks again
	}
	order.RLock()
	again := &core.Order{Order: order.Order, ID: order.ID, AccountID: order.AccountID, CertificateObject: &core.Certificate{ID: asked}}
	order.RUnlock()
	_ = a.store.AddOrderByIssuedSerial(again) // fails without a certificate alone
}
