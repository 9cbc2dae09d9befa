package endpoint

import (
	"crypto/rand"
	"errors"
	"os"
)

// BindBackend makes this process the owner of a backend pipe. With an empty path
// it takes a fresh random name in the user's runtime directory, which needs no
// lock because nobody else can choose it; with a path it does what Bind does.
// Nobody can send descriptors to it, as for Bind.
func BindBackend(path string) (*Binding, error) {
	if path != "" {
		return Bind(path)
	}
	path, err := NewBackendPath()
	if err != nil {
		return nil, err
	}
	return bindAs("bind backend pipe", path, socketKind{})
}

// BindForChild binds a fresh random name in the user's runtime directory for a process that
// is to be started, which gets listener and knows nothing of this one: it is in blocking
// mode, and takes descriptors. The caller closes listener once the process has it, and
// then calls Leave, or Close where there is none.
func BindForChild() (b *Binding, listener *os.File, err error) {
	path, err := NewBackendPath()
	if err != nil {
		return nil, nil, err
	}
	if b, err = bindAs("bind backend pipe", path, socketKind{descriptors: true}); err != nil {
		return nil, nil, err
	}
	if listener, err = blocking(b.Listener); err != nil {
		return nil, nil, errors.Join(err, b.Close())
	}
	return b, listener, nil
}

// BindHandoff is Bind for the handoff endpoint of the v1 protocol (spec 02 §8),
// where connections arrive as descriptors.
func BindHandoff(path string) (*Binding, error) {
	return bindAs("bind handoff endpoint", path, socketKind{contested: true, descriptors: true})
}

// randomLen is how many random bytes make a pipe's name.
const randomLen = 16

// CheckBackendRoom returns nil when the random path of a backend's pipe fits
// here. Its name is longer than a broker's, so a broker may be able to bind where
// no backend can. Errors: those of NewBackendPath.
func CheckBackendRoom() error {
	_, err := NewBackendPath()
	return err
}

// NewBackendPath returns a path that no backend has used: 16 random bytes make
// its name. Errors: *PathTooLongError; why the user has no hash.
func NewBackendPath() (string, error) {
	hash, err := UserHash()
	if err != nil {
		return "", err
	}
	var random [randomLen]byte
	_, _ = rand.Read(random[:]) // never fails: it ends the program instead
	leaf, err := thisHost().backendLeaf(hash, random)
	if err != nil {
		return "", err
	}
	path, err := SocketPath(leaf)
	var long *PathTooLongError
	if errors.As(err, &long) {
		long.Hint += ", or give the backend a short pipe path of its own (backend.Options.Pipe)"
	}
	return path, err
}
