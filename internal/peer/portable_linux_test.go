//go:build usher_portable

package peer_test

import "errors"

func watchRefused() error { return errors.New("there is nothing to refuse") }
