//go:build !unix

package handoff

import "errors"

func setNonblock(int, bool) error { return errors.ErrUnsupported }
