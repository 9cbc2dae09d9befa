// Package watch tells whether anything has happened on the way to a set of files
// since it was last asked, for the price of one read that finds nothing.
//
// It tells of every change by a system call that ended before the question. What
// the kernel does not report (a file system mounted over a directory, a write
// through a memory map, another machine's change on a network file system) it
// doesn't tell: who must know that as well looks at the files themselves now and
// then.
//
// A leaf: of usher it imports sock/rawsys alone. A Watch owns its descriptor.
package watch
