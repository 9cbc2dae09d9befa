//go:build linux && !amd64 && !386 && !arm && !mips && !mipsle

package rawsys

import "golang.org/x/sys/unix"

const (
	sysFstat   = unix.SYS_FSTAT
	sysFstatat = unix.SYS_FSTATAT
)
