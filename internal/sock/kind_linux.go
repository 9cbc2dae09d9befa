//go:build linux && !usher_portable

package sock

import (
	"golang.org/x/sys/unix"

	"github.com/seed-7265657e/usher/internal/wire"
)

// ChannelKind is what Pair makes.
const ChannelKind = wire.ChannelKind_CHANNEL_KIND_SEQPACKET

const channelType = unix.SOCK_SEQPACKET
