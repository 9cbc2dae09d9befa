//go:build !unix

package filehash

// nonblock is nothing: opening waits for nobody here.
const nonblock = 0
