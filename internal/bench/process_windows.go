package bench

import (
	"fmt"
	"net"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/seed-7265657e/usher/internal/sock"
)

var (
	kernel32    = windows.NewLazySystemDLL("kernel32.dll")
	affinity    = kernel32.NewProc("GetProcessAffinityMask")
	setAffinity = kernel32.NewProc("SetProcessAffinityMask")
)

// onOneCPU has f start processes that share one processor: they inherit this process' set,
// which is one of one meanwhile.
func onOneCPU(f func() error) error {
	var own, system uintptr
	self := uintptr(windows.CurrentProcess())
	if ok, _, err := affinity.Call(self, uintptr(unsafe.Pointer(&own)), uintptr(unsafe.Pointer(&system))); ok == 0 {
		return fmt.Errorf("processors of this process: %w", err)
	}
	if ok, _, err := setAffinity.Call(self, own&-own); ok == 0 {
		return fmt.Errorf("one processor for this process: %w", err)
	}
	defer func() { _, _, _ = setAffinity.Call(self, own) }()
	return f()
}

func kernel() string {
	major, minor, build := windows.RtlGetNtVersionNumbers()
	return fmt.Sprintf("Windows %d.%d.%d", major, minor, build)
}

// dialPlainly is what a client does that knows nothing of usher.
func dialPlainly(pipe string) (net.Conn, error) { return sock.Dial(pipe) }
