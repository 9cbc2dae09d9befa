//go:build linux && !usher_portable

package endpoint

import (
	"crypto/rand"
	"strings"
)

// probeName begins the address of a socket that only asks who listens. An abstract
// name: it needs no file, and goes with the socket.
const probeName = "@usher-probe-"

func probeAddress(string) (name string, forget func()) { return probeName + rand.Text(), func() {} }

func isProbeAddress(name string) bool { return strings.HasPrefix(name, probeName) }
