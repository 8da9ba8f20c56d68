//go:build !long

package relay_test

// randomSessions is how many the randomised test runs.
const randomSessions = 300
