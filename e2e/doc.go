// Package e2e tests the built program from outside: the binary, its configuration file, its log, its access log and
// its sockets, with real clients (curl, openssl, Python, Node, Java), real backends (nginx, haproxy) and real faults
// (killed processes, black-holed namespaces). Nothing here imports the program's packages.
//
// The tests carry the build tag e2e, need root and the Debian packages that .ci/run installs, and fail, never skip,
// where one is missing. `make e2e` runs them; tag long adds what takes long.
//
// Start with harness_test.go. The themes: clients, backends, passthrough, terminate, proxy (the PROXY protocol),
// hellos and peers (the hello table against Snicket and against other balancers), failures, limits, idle, reload,
// fairness, demo.
package e2e
