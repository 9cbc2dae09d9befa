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

const (
	// Racy is how long after a change another one may carry the same time: the clock
	// that stamps files is coarser than this by a factor of ten.
	Racy = 100 * time.Millisecond
	// coarse is how long that is where a file system keeps whole seconds, as HFS+ does, or
	// every other one, as FAT.
	coarse = 2*time.Second + Racy
)

// Settled reports whether a file that was last changed when its stamp says, can't be changed
// at t or later without getting another stamp.
func Settled(changed, t time.Time) bool {
	racy := Racy
	if changed.Nanosecond() == 0 {
		racy = coarse
	}
	return changed.Before(t.Add(-racy))
}

// Size is the file's, in bytes.
func (s Stamp) Size() int64 { return int64(s.size) }

// SameFile reports whether both are of one file, whatever its content was and is.
func (s Stamp) SameFile(as Stamp) bool { return s != Stamp{} && s.dev == as.dev && s.ino == as.ino }

// Settled reports whether a file with this stamp can't have been changed at t or
// later without getting another stamp: its last change lies far enough before t.
func (s Stamp) Settled(t time.Time) bool {
	return s != Stamp{} && Settled(time.Unix(0, max(s.changed, s.edited)), t)
}
