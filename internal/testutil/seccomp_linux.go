package testutil

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Call is a system call; with an Option, only when its third argument is that.
type Call struct {
	Number uintptr
	Option uint32
}

// PeerPidfd asks a socket for the process at its other end.
var PeerPidfd = Call{Number: unix.SYS_GETSOCKOPT, Option: unix.SO_PEERPIDFD}

// Refuse has the kernel refuse calls with errno from now on, to every thread of
// this process and what it starts, as a container's filter or an older kernel
// does. It can't be undone: it is for helper processes.
func Refuse(errno unix.Errno, calls ...Call) error {
	const (
		number = 0        // offset of the call's number in struct seccomp_data
		third  = 16 + 2*8 // of its third argument's low half
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K
	)
	var program []unix.SockFilter
	for _, c := range calls {
		block := []unix.SockFilter{{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(errno)}}
		if c.Option != 0 {
			block = append([]unix.SockFilter{{Code: load, K: third}, {Code: equal, K: c.Option, Jf: 1}}, block...)
		}
		program = append(program, unix.SockFilter{Code: load, K: number}, unix.SockFilter{Code: equal, K: uint32(c.Number), Jf: uint8(len(block))})
		program = append(program, block...)
	}
	program = append(program, unix.SockFilter{Code: answer, K: unix.SECCOMP_RET_ALLOW})

	runtime.LockOSThread() // the promise and the filter are made by one thread
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&filter))); e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	return nil
}
