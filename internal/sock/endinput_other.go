//go:build !windows

package sock

import (
	"context"
	"io"
)

// EndInput tells the other end of c that nothing follows. It is true where c is to be closed
// instead, which here it never is.
func EndInput(_ context.Context, c interface{ CloseWrite() error }, _ io.Writer) bool {
	_ = c.CloseWrite()
	return false
}
