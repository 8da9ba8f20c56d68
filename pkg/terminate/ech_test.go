package terminate_test

import (
	"crypto/tls"
	"errors"
	"testing"

	"github.com/snicketlb/snicket/pkg/certs"
	"github.com/snicketlb/snicket/pkg/terminate"
)

// TestHelloWithinStaysShut holds that no hello within another is opened where nobody
// would look at its name: the server could not tell it from the outer one.
func TestHelloWithinStaysShut(t *testing.T) {
	noLeaks(t)
	l, r := newLab(t), newRig(t)
	key, err := certs.GenerateECH(host)
	if err != nil {
		t.Fatal(err)
	}
	store := certs.Fixed(l.cert)
	server := terminate.ServerConfig(terminate.ServerOptions{
		Store: store, ECH: certs.NewLiveECH(certs.NewECH([]*certs.ECHKey{key})),
	})
	client := &tls.Config{
		RootCAs: l.authority.Pool(), ServerName: "secret.test", EncryptedClientHelloConfigList: key.ConfigList(),
	}
	_, _, _, err = dialFor(t, r, server, client, host)
	var rejected *tls.ECHRejectionError
	if !errors.As(err, &rejected) || rejected.RetryConfigList != nil {
		t.Errorf("got %v, want a refusal that tells of no key", err)
	}
}
