//go:build unix

package filehash

import "syscall"

const nonblock = syscall.O_NONBLOCK
