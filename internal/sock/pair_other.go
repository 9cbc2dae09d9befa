//go:build !unix && !windows

package sock

import (
	"errors"
	"fmt"

	"github.com/seed-7265657e/usher/internal/wire"
)

// ChannelKind is what Pair would make.
const ChannelKind = wire.ChannelKind_CHANNEL_KIND_STREAM

// Pair answers errors.ErrUnsupported: backends on this system are reached
// through their own pipes.
func Pair() (near *Channel, far *FD, err error) {
	return nil, nil, fmt.Errorf("make a channel: %w on this system", errors.ErrUnsupported)
}
