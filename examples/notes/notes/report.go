package notes

import (
	"context"
	"maps"
	"net"
	"os"
	"runtime"

	"github.com/seed-7265657e/usher/backend"
)

// Report is what the process counted about itself.
type Report struct {
	Executions map[string]int `json:"executions"`  // by request id
	HandedOver int            `json:"handed_over"` // connections that the broker handed over
	Dialled    int            `json:"dialled"`     // connections that came through the own pipe
	FDs        int            `json:"fds"`         // open descriptors; 0 where the system does not tell
	Goroutines int            `json:"goroutines"`
}

// Report counts now.
func (a *App) Report() Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Report{
		Executions: maps.Clone(a.executions),
		HandedOver: a.handedOver,
		Dialled:    a.dialled,
		FDs:        openDescriptors(),
		Goroutines: runtime.NumGoroutine(),
	}
}

// countConn is an http.Server's ConnContext: called once for each connection.
func (a *App) countConn(ctx context.Context, c net.Conn) context.Context {
	a.mu.Lock()
	defer a.mu.Unlock()
	if conn, ok := c.(*backend.Conn); ok && conn.HandedOver() {
		a.handedOver++
	} else {
		a.dialled++
	}
	return ctx
}

func openDescriptors() int {
	for _, dir := range []string{"/proc/self/fd", "/dev/fd"} {
		if entries, err := os.ReadDir(dir); err == nil {
			return len(entries) - 1 // one is the listing's own
		}
	}
	return 0
}
