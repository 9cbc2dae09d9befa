//go:build unix

package endpoint

import (
	"os"
	"path/filepath"
)

// startFile is the file that a StartLock locks: beside the socket.
func startFile(path string) (string, error) {
	return path + ".start", ensureParent(filepath.Dir(path))
}

// isServed reports whether there is a socket at path.
func isServed(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
