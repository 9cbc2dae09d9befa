package filehash

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestFIFOInTheFilesPlace: a FIFO that takes the place of a file after it was judged
// keeps nobody. Opening one would wait until somebody opens it to write.
func TestFIFOInTheFilesPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bin")
	writeFile(t, path, "x")
	key, err := hashable(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := hashInTurn(t.Context(), path, nil, key)
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-time.After(time.Minute):
		w, openErr := os.OpenFile(path, os.O_WRONLY, 0)
		t.Error("it waits for a writer", openErr)
		err = <-ended
		_ = w.Close()
	}
	if !errors.Is(err, errChanged) {
		t.Errorf("got %v, want %v", err, errChanged)
	}
}
