package endpoint

import (
	"crypto/rand"
	"fmt"
)

// BindBackend makes this process the owner of a backend pipe. With an empty path
// it takes a fresh random name in the user's runtime directory, which needs no
// lock because nobody else can choose it; with a path it does what Bind does.
func BindBackend(path string) (*Binding, error) {
	if path != "" {
		return Bind(path)
	}
	path, err := NewBackendPath()
	if err != nil {
		return nil, err
	}
	b, err := bind(path, false)
	if err != nil {
		return nil, fmt.Errorf("bind backend pipe %s: %w", path, err)
	}
	return b, nil
}

// NewBackendPath returns a path that no backend has used: 16 random bytes make
// its name.
func NewBackendPath() (string, error) {
	hash, err := UserHash()
	if err != nil {
		return "", err
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails: it ends the program instead
	leaf, err := BackendLeaf(hash, random)
	if err != nil {
		return "", err
	}
	return SocketPath(leaf)
}
