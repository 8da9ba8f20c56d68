package proxy

// An Outcome is how a session ended. The list is closed and the same in the
// access log, metrics and the admin API.
type Outcome uint8

// The outcomes, in the order in which a session can meet them.
const (
	OK               Outcome = iota // both ways ended in good order
	NoHello                         // the client left before a whole ClientHello
	NoRoute                         // no route for the name, or none whose alpn fits
	Rejected                        // the route's mode is reject
	Denied                          // by from or deny_from
	NotTLS                          // the first bytes are not TLS
	BadHello                        // TLS, but not a ClientHello that can be trusted
	HelloTimeout                    // no whole ClientHello in time
	HelloTooLarge                   // more than max_hello
	BadProxyHeader                  // missing, unwanted or broken PROXY header
	RateLimited                     // per_ip_rate
	OverLimit                       // max_hellos, per_ip_connections or a route's max_connections
	HandshakeTimeout                // TLS with the client not done in time
	ClientTLSFailed                 // TLS with the client failed
	BackendTLSFailed                // TLS with the backend failed
	NoCertificate                   // no certificate for the name
	ACME                            // an ACME challenge, answered
	NoBackend                       // no backend of the pool is ready
	DialFailed                      // all tries to reach a backend failed
	QueueTimeout                    // waited too long for a backend with room
	ClientReset                     // the client's connection broke
	BackendReset                    // the backend's connection broke
	IdleTimeout                     // no byte in either direction
	FinTimeout                      // no byte in the direction still open
	Drained                         // ended at the end of a drain
	Killed                          // by the operator
	Moved                           // handed to another process
	Internal                        // a fault or a shortage of our own
	// Outcomes is their number.
	Outcomes = int(iota)
)

// String is the outcome's word.
func (o Outcome) String() string {
	words := [Outcomes]string{
		OK: "ok", NoHello: "no-hello", NoRoute: "no-route", Rejected: "rejected", Denied: "denied",
		NotTLS: "not-tls", BadHello: "bad-hello", HelloTimeout: "hello-timeout",
		HelloTooLarge: "hello-too-large", BadProxyHeader: "bad-proxy-header",
		RateLimited: "rate-limited", OverLimit: "over-limit", HandshakeTimeout: "handshake-timeout",
		ClientTLSFailed: "client-tls-failed", BackendTLSFailed: "backend-tls-failed",
		NoCertificate: "no-certificate", ACME: "acme", NoBackend: "no-backend",
		DialFailed: "dial-failed", QueueTimeout: "queue-timeout", ClientReset: "client-reset",
		BackendReset: "backend-reset", IdleTimeout: "idle-timeout", FinTimeout: "fin-timeout",
		Drained: "drained", Killed: "killed", Moved: "moved", Internal: "internal",
	}
	if int(o) < len(words) {
		return words[o]
	}
	return "unknown"
}
