//go:build linux && (386 || arm || mips || mipsle)

package rawsys

import "golang.org/x/sys/unix"

const (
	sysFstat   = unix.SYS_FSTAT64
	sysFstatat = unix.SYS_FSTATAT64
)
