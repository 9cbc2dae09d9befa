package identity

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/internal/wire"
)

// startedAt is close to the start of the process. It is informational: no peer
// compares it.
var startedAt = time.Now()

// BootID names the current boot of this machine. Errors: the system does not
// tell.
func BootID() (string, error) { return bootID() }

// bootID and ownImage can't change while the process runs, and hashing an
// executable takes milliseconds: once per process, when first asked for.
var (
	bootID   = sync.OnceValues(readBootID)
	ownImage = sync.OnceValues(readOwnImage)
)

type image struct {
	path   string
	digest Digest
}

func readOwnImage() (image, error) {
	path, err := os.Executable()
	if err != nil {
		return image{}, fmt.Errorf("path of the own executable: %w", err)
	}
	digest, err := FileHash(ownImageFile(path))
	if err != nil {
		return image{}, fmt.Errorf("hash of the own executable: %w", err)
	}
	return image{path: path, digest: digest}, nil
}

// Self describes the calling process as the backend behind the endpoint
// {namespace, path}, with the SHA-256 of its executable for the legacy trailer
// of AnswerProbe. The caller owns the message and may change it.
func Self(namespace, path string) (self *wire.DaemonProcess, legacy [HashLen]byte, err error) {
	own, err := ownImage()
	if err != nil {
		return nil, legacy, err
	}
	boot, err := BootID()
	if err != nil {
		return nil, legacy, err
	}
	return &wire.DaemonProcess{
		Pid:              uint32(os.Getpid()),
		ExePath:          own.path,
		IpcEndpoint:      &wire.Endpoint{NamespaceId: namespace, Path: path},
		StartedAtUnixMs:  uint64(startedAt.UnixMilli()),
		BootId:           boot,
		ExeHashAlgorithm: Algorithm,
		ExeHash:          own.digest.BLAKE3[:],
	}, own.digest.SHA256, nil
}
