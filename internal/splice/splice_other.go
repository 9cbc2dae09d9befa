//go:build !linux || usher_portable

package splice

import (
	"context"
	"errors"
	"io"
)

type state struct{}

func (state) try(a, b Conn) bool { return false }

func (state) open() (a, b bool) { return true, true }

// join has a goroutine for each direction.
func (state) join(ctx context.Context, a, b Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = a.Close(); _ = b.Close() })
	defer stop()
	oneWay := func(to, from Conn) error {
		_, err := io.Copy(to, from)
		return endWay(to, from, err)
	}
	there := make(chan error, 1)
	go func() { there <- oneWay(b, a) }()
	return errors.Join(oneWay(a, b), <-there)
}
