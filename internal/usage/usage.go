// Package usage tells what processes may have and have: descriptors, memory, files.
//
// A leaf: it imports nothing of usher, and no descriptor passes through it.
package usage

// Inodes says how many files a file system can still take. Total 0 with no Problem: it
// does not count inodes.
type Inodes struct {
	Total   uint64
	Free    uint64
	Problem string // why they could not be counted
}
