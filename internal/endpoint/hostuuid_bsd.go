//go:build freebsd || openbsd || netbsd || dragonfly

package endpoint

import "golang.org/x/sys/unix"

// hostUUID is FreeBSD's, DragonFly's, OpenBSD's or NetBSD's identity of the machine; empty
// where the kernel has none.
func hostUUID() string {
	for _, name := range []string{"kern.hostuuid", "hw.uuid", "machdep.dmi.system-uuid"} {
		if id, err := unix.Sysctl(name); err == nil && id != "" {
			return id
		}
	}
	return ""
}
