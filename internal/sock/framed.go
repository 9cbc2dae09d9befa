package sock

// ReceiveFramed reads one framed message, of at most MaxMessage bytes, from a stream,
// with the descriptors that came with its first byte; anywhere else they break the
// framing. It borrows sock, whose read deadline bounds it, and leaves what follows the
// message in the kernel. The errors are those of Channel.Recv; with any of them no
// descriptor stays open.
func ReceiveFramed(sock *Conn) (Message, error) {
	c := Channel{sock: sock, stream: newStreamed(sock)}
	defer c.stream.close()
	return c.recvStream()
}
