//go:build !usher_portable

package testutil

// Portable is that what Linux alone has is done without: a test of it can't pass.
const Portable = false
