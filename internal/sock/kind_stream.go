//go:build unix && (!linux || usher_portable)

package sock

import (
	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/wire"
)

// ChannelKind is what Pair makes: macOS has no SOCK_SEQPACKET.
const ChannelKind = wire.ChannelKind_CHANNEL_KIND_STREAM

const channelType = unix.SOCK_STREAM
