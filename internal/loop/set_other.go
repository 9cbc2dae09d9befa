//go:build !unix && !windows

package loop

import (
	"errors"
	"fmt"
	"time"
)

// set can't be made on this system.
type set struct{}

var errUnsupported = fmt.Errorf("%w on this system", errors.ErrUnsupported)

func noSet() set { return set{} }

func (l *Loop) open() error { return errUnsupported }

func (s *set) add(int, bool) error { return errUnsupported }

func (s *set) remove(int) {}

func (s *set) wakeUp() {}

func (s *set) woken() {}

func (s *set) arm(time.Time) {}

func (l *Loop) run() error { return errUnsupported }

func (s *set) close() {}
