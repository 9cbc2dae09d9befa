//go:build !usher_portable

package launch_test

const portable = false
