package broker

import (
	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/sock"
)

// PassDescriptors has clients' descriptors passed, as by a kernel that can't
// refuse them.
func (b *Broker) PassDescriptors() {
	_ = unix.SetsockoptInt(sock.Number(b.server.acceptor), unix.SOL_SOCKET, unix.SO_PASSRIGHTS, 1)
}
