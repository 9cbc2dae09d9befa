//go:build unix

package handoff

import "golang.org/x/sys/unix"

func setNonblock(fd int, on bool) error { return unix.SetNonblock(fd, on) }
