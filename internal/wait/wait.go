// Package wait pauses, and never without a way out.
//
// A leaf: it imports nothing of usher, and no descriptor passes through it.
package wait

import (
	"context"
	"time"
)

// For waits for d and returns true, or false as soon as ctx has ended.
func For(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
