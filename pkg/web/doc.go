// Package web speaks HTTP for the hosts whose routes ask for it: HTTP/1.1 and
// HTTP/2 to the client, each request to a backend of its own choice, and the few
// headers that an edge owes.
//
// Start at [Site], which is what a route does with requests, and [Site.Serve],
// which serves one client connection whose TLS is done. A [Pool] sends requests
// to backends over connections that it keeps alive. A [Plain] is what a listener
// of plain HTTP does: it answers the challenges of ACME, sends everyone else to
// https, and serves the Sites that name the listener.
//
// The protocols are those of net/http and httputil.ReverseProxy: how a message is
// read, what is refused as malformed, which header fields are hop-by-hop. What is
// ours is whose request it is (421), what it may ask for (403), where it goes, and
// what the backend is told of the client.
//
// A request's path is never changed on its way. It is read in every way that a
// backend might read it only to decide whether it is denied, see [Rule].
//
// The package refuses to cache, to compress, to rewrite bodies or paths, to carry
// CONNECT, and to switch to any protocol but WebSocket: a tunnel of HTTP/2 within
// HTTP/1.1 would get past every rule.
package web
