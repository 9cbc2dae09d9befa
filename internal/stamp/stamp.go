// Package stamp tells by one stat whether a file is still the one that was read.
//
// A leaf: of usher it imports sock/rawsys alone, and keeps nothing open.
package stamp

import "time"

// Stamp is what identifies a file and its content: device, inode, mode, owner,
// size, and both change times. The zero Stamp is no file's.
type Stamp struct {
	dev, ino, size  uint64
	mode, uid       uint32
	changed, edited int64 // ns: of the inode, of the content
}

// Racy is how long after a change another one may carry the same time: the clock
// that stamps files is coarser than this by a factor of ten.
const Racy = 100 * time.Millisecond

// Size is the file's, in bytes.
func (s Stamp) Size() int64 { return int64(s.size) }

// SameFile reports whether both are of one file, whatever its content was and is.
func (s Stamp) SameFile(as Stamp) bool { return s != Stamp{} && s.dev == as.dev && s.ino == as.ino }

// Settled reports whether a file with this stamp can't have been changed at t or
// later without getting another stamp: its last change lies far enough before t.
func (s Stamp) Settled(t time.Time) bool {
	latest := max(s.changed, s.edited)
	return s != Stamp{} && latest < t.Add(-Racy).UnixNano()
}
