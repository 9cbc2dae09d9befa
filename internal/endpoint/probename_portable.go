//go:build unix && (!linux || usher_portable)

package endpoint

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
)

// probeName begins the name of a socket that only asks who listens: a file beside the
// socket of the one who is asked, for a moment.
const probeName = "usher-probe-"

func probeAddress(path string) (name string, forget func()) {
	name = filepath.Join(filepath.Dir(path), probeName+rand.Text()[:10])
	return name, func() { _ = os.Remove(name) }
}

func isProbeAddress(name string) bool { return strings.HasPrefix(filepath.Base(name), probeName) }
