//go:build unix || windows

package sock

import (
	"net"
	"runtime"
	"syscall"
)

// This file is how a Conn has and lends its descriptor, or handle, on every system that has
// connections.

func newConn(fd int) *Conn {
	c := &Conn{fd: fd}
	c.uses.Store(1)
	return c
}

// CloseWhenDropped has the runtime close a Conn that is dropped without Close, as those
// of package net are. It costs an allocation or two; a value that holds the Conn and has
// such a cleanup itself, because it ends the conversation first, does without. Call it
// once, before anybody else has the Conn.
func (c *Conn) CloseWhenDropped() { c.dropped = runtime.AddCleanup(c, closeFD, c.fd) }

// borrow lends the descriptor, which stays open until giveBack; it is false once
// the Conn is closed. What is done with it must not block, and must not close it.
func (c *Conn) borrow() (fd int, ok bool) {
	for {
		n := c.uses.Load()
		if n == 0 || c.closed.Load() {
			return -1, false
		}
		if c.uses.CompareAndSwap(n, n+1) {
			return c.fd, true
		}
	}
}

func (c *Conn) number() int { return c.fd }

// SyscallConn implements syscall.Conn. Bytes that a caller of Read has been given are gone
// from the connection.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	if c.closed.Load() {
		return nil, opError("raw-control", net.ErrClosed)
	}
	return rawConn{c}, nil
}

type rawConn struct{ c *Conn }

func (r rawConn) Control(f func(uintptr)) error {
	fd, ok := r.c.borrow()
	if !ok {
		return opError("raw-control", net.ErrClosed)
	}
	defer r.c.giveBack()
	f(uintptr(fd))
	return nil
}
