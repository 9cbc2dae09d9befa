package testutil

import (
	"os"
	"strconv"
	"testing"
)

// Repeat is how often a test does something: usual, short with -short, or what the
// environment variable says.
func Repeat(tb testing.TB, variable string, usual, short int) int {
	tb.Helper()
	if text, set := os.LookupEnv(variable); set {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			tb.Fatalf("%s is %q: want a number", variable, text)
		}
		return n
	}
	if testing.Short() {
		return short
	}
	return usual
}
