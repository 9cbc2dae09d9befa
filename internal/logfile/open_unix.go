//go:build unix

package logfile

import "syscall"

// noFollow has the last part of a path be no symbolic link.
const noFollow = syscall.O_NOFOLLOW
