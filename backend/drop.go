package backend

import (
	"runtime"
	"syscall"

	"github.com/seed-7265657e/usher/internal/sock"
)

// A connection that the application drops without Close is closed when the garbage
// collector finds it, as package net's are: its client sees the end. What is closed then
// is the socket within, which knows itself whether it has been closed; so no number that
// is somebody else's by now is. A call under way keeps the Conn (Read, Write, and those
// of SyscallConn).

// closeWhenDropped is called once, when the application gets c.
func (c *Conn) closeWhenDropped() {
	c.dropped = runtime.AddCleanup(c, closeDropped, left{c.sock, c.member})
}

// left is what a dropped connection leaves behind.
type left struct {
	sock   *sock.Conn
	member *member
}

func closeDropped(l left) {
	_ = l.sock.Flush()
	_ = l.sock.ShutdownClose()
	l.member.leave()
}

// keptRaw is a raw connection that keeps the Conn.
type keptRaw struct {
	raw  syscall.RawConn
	conn *Conn
}

func (r keptRaw) Control(f func(uintptr)) error {
	defer runtime.KeepAlive(r.conn)
	return r.raw.Control(f)
}

func (r keptRaw) Read(f func(uintptr) bool) error {
	defer runtime.KeepAlive(r.conn)
	return r.raw.Read(f)
}

func (r keptRaw) Write(f func(uintptr) bool) error {
	defer runtime.KeepAlive(r.conn)
	return r.raw.Write(f)
}
