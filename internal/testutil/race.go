//go:build race

package testutil

// Race says that the race detector is in this binary, which keeps several times the
// memory that the program takes.
const Race = true
