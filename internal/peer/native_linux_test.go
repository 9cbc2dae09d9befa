//go:build !usher_portable

package peer_test

const portable = false
