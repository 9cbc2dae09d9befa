//go:build !race

package testutil

// Race says that the race detector is in this binary.
const Race = false
