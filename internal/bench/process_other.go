//go:build !linux

package bench

import "errors"

func onOneCPU(func() error) error { return errors.ErrUnsupported }
func kernel() string              { return "" }
