//go:build !unix

package demo

import (
	"errors"
	"os"
)

func freeze() error { return errors.ErrUnsupported }

func thaw(*os.Process) error { return errors.ErrUnsupported }

func terminate(p *os.Process) error { return p.Kill() }
