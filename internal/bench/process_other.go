//go:build !linux && !windows

package bench

import "errors"

func onOneCPU(func() error) error { return errors.ErrUnsupported }
func kernel() string              { return "" }
