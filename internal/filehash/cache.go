package filehash

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/seed-7265657e/usher/internal/stamp"
)

// maxCached bounds the cache. A broker knows far fewer executables; a cache that
// is full starts over.
const maxCached = 256

// changeTries bounds how often a file that changes while it is read is read
// again.
const changeTries = 3

// maxHashed is the largest file that is hashed, in bytes. Code and data of an
// executable end there on common machines (displacements of 32 bits), and any
// disk delivers as much within a connection's deadline; a file of any size costs
// nothing to make.
const maxHashed = 2 << 30

var errChanged = errors.New("the file changed while it was read: try again when it is written completely")

// TooLargeError reports a file that is not hashed for its size. Nothing was read.
type TooLargeError struct {
	Path string
	Size int64 // bytes
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s has %d bytes, and no file above %d is hashed: it is no executable that could serve, or strip it",
		e.Path, e.Size, int64(maxHashed))
}

// Cache remembers the BLAKE3 of files for as long as device, inode, size and
// both change times stay the same (spec 03 §24), unless a file has only just been
// changed: another change could carry the same times. A hit costs one stat. Callers
// that ask for the same file at once share one read. The zero value is ready.
type Cache struct {
	mu    sync.Mutex // guards files; never held while a file is read
	files map[fileKey]*cachedHash
}

// cachedHash is the hash of one file; sum and err are set when done is closed.
type cachedHash struct {
	done chan struct{}
	sum  [HashLen]byte
	err  error
}

// Hash returns the BLAKE3 of the file's content now. It waits its turn, and ends
// with ctx wherever it is. Failures are not remembered. Errors: *os.PathError,
// *TooLargeError, ctx's; a file that is not regular is an error.
func (c *Cache) Hash(ctx context.Context, path string) ([HashLen]byte, error) {
	return c.hash(ctx, path, nil)
}

// HashFile is Hash of an open file, whatever has its name by now. f is borrowed, and is
// read from its beginning.
func (c *Cache) HashFile(ctx context.Context, f *os.File) ([HashLen]byte, error) {
	return c.hash(ctx, f.Name(), f)
}

// hash hashes f, or with nil what is at path.
func (c *Cache) hash(ctx context.Context, path string, f *os.File) ([HashLen]byte, error) {
	for tries := 0; tries < changeTries; {
		began := time.Now()
		key, err := hashable(path, f)
		if err != nil {
			return [HashLen]byte{}, err
		}
		entry, mine := c.entry(key)
		if mine {
			entry.sum, entry.err = hashInTurn(ctx, path, f, key)
			if entry.err != nil || !stamp.Settled(key.changed(), began) {
				c.forget(key, entry)
			}
			close(entry.done)
		} else if err := entry.wait(ctx); err != nil {
			return [HashLen]byte{}, fmt.Errorf("hash %s: %w", path, err)
		}
		switch {
		case entry.err == nil:
			return entry.sum, nil
		case !mine: // another's failure, or his haste: begin again
		case errors.Is(entry.err, errChanged):
			tries++
		default:
			return [HashLen]byte{}, entry.err
		}
	}
	return [HashLen]byte{}, fmt.Errorf("%s: %w", path, errChanged)
}

// hashable returns the key of a file that can be hashed: f, or with nil what is at path.
func hashable(path string, f *os.File) (fileKey, error) {
	stat := func() (os.FileInfo, error) { return os.Stat(path) }
	if f != nil {
		stat = f.Stat
	}
	fi, err := stat()
	switch {
	case err != nil:
		return fileKey{}, err
	case !fi.Mode().IsRegular():
		return fileKey{}, fmt.Errorf("%s is not a regular file", path)
	case fi.Size() > maxHashed:
		return fileKey{}, &TooLargeError{Path: path, Size: fi.Size()}
	}
	return keyOf(path, fi), nil
}

// entry returns the file's entry; mine says that it is new, and the caller's to
// fill.
func (c *Cache) entry(key fileKey) (e *cachedHash, mine bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.files[key]; e != nil {
		return e, false
	}
	if c.files == nil || len(c.files) >= maxCached {
		c.files = make(map[fileKey]*cachedHash)
	}
	e = &cachedHash{done: make(chan struct{})}
	c.files[key] = e
	return e, true
}

func (e *cachedHash) wait(ctx context.Context) error {
	select {
	case <-e.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *Cache) forget(key fileKey, failed *cachedHash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files[key] == failed {
		delete(c.files, key)
	}
}

// hashInTurn hashes f, or with nil the file at path, if it is the one of key before and
// after.
func hashInTurn(ctx context.Context, path string, f *os.File, key fileKey) (sum [HashLen]byte, err error) {
	holder, err := takeTurn(ctx)
	if err != nil {
		return sum, fmt.Errorf("hash %s: %w", path, err)
	}
	defer holder.end()
	if f == nil {
		if f, err = os.OpenFile(path, os.O_RDONLY|nonblock, 0); err != nil { // a FIFO may have taken its place, and opening one waits
			return sum, err
		}
		defer f.Close()
	} else if _, err = f.Seek(0, io.SeekStart); err != nil {
		return sum, err
	}
	if !isFile(f, path, key) {
		return sum, errChanged
	}
	if sum, err = contentHash(ctx, f, key.size, holder.moved); err != nil {
		return sum, fmt.Errorf("hash %s: %w", path, err)
	}
	if !isFile(f, path, key) {
		return sum, errChanged
	}
	return sum, nil
}

func isFile(f *os.File, path string, key fileKey) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode().IsRegular() && keyOf(path, fi) == key
}
