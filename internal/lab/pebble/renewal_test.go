package pebble

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/letsencrypt/pebble/v2/acme"
	"github.com/letsencrypt/pebble/v2/core"
)

// TestIndex holds that an order is found by the identifier of its certificate, whatever
// the first bit of the serial number.
func TestIndex(t *testing.T) {
	for _, tc := range []struct{ name, kept, id, asked string }{
		{"first bit set", "b1af4d602eea79", "ak.ALGvTWAu6nk", "00b1af4d602eea79"},
		{"not set", "31af4d602eea79", "ak.Ma9NYC7qeQ", "31af4d602eea79"},
	} {
		a := Start(t, Options{RenewAtOnce: true})
		order := &core.Order{
			Order:     acme.Order{Identifiers: []acme.Identifier{{Type: acme.IdentifierDNS, Value: "a.test"}}},
			AccountID: "1", CertificateObject: &core.Certificate{ID: tc.kept},
		}
		if err := a.store.AddOrderByIssuedSerial(order); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			w := httptest.NewRecorder()
			a.watched(http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/x/renewalInfo/"+tc.id, nil))
			if w.Code != http.StatusOK {
				t.Errorf("%s: status %d", tc.name, w.Code)
			}
			found, err := a.store.GetOrderByIssuedSerial(tc.asked)
			if err != nil || found.AccountID != "1" || len(found.Identifiers) != 1 {
				t.Errorf("%s: got %v, %v; want the order", tc.name, found, err)
			}
		}
	}
}
