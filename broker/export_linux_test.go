package broker

import "golang.org/x/sys/unix"

// PassDescriptors has clients' descriptors passed, as by a kernel that can't
// refuse them.
func (b *Broker) PassDescriptors() {
	_ = unix.SetsockoptInt(b.server.acceptor.fd, unix.SOL_SOCKET, unix.SO_PASSRIGHTS, 1)
}
