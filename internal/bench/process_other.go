//go:build !linux

package bench

import (
	"errors"
	"time"
)

func cpuTime(int) (time.Duration, error) { return 0, errors.ErrUnsupported }
func residentSet(int) (int64, error)     { return 0, errors.ErrUnsupported }
func onOneCPU(func() error) error        { return errors.ErrUnsupported }
func raiseLimit()                        {}
func kernel() string                     { return "" }
