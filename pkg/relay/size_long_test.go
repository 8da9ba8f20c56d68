//go:build long

package relay_test

const randomSessions = 2000
