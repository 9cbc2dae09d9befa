package identity

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// maxCached bounds the cache. A broker knows far fewer executables; a cache that
// is full starts over.
const maxCached = 256

// changeTries bounds how often a file that changes while it is read is read
// again.
const changeTries = 3

var errChanged = errors.New("the file changed while it was read: try again when it is written completely")

// HashCache remembers the BLAKE3 of files for as long as device, inode, size and
// both change times stay the same (spec 03 §24). A hit costs one stat. Callers
// that ask for the same file at once share one read. The zero value is ready.
type HashCache struct {
	mu    sync.Mutex // guards files; never held while a file is read
	files map[fileKey]*cachedHash
}

type cachedHash struct {
	once sync.Once
	sum  [HashLen]byte
	err  error
}

// Hash returns the BLAKE3 of the file's content now. Failures are not
// remembered. Errors: *os.PathError; a file that is not regular is an error.
func (c *HashCache) Hash(path string) ([HashLen]byte, error) {
	for range changeTries {
		fi, err := os.Stat(path)
		if err != nil {
			return [HashLen]byte{}, err
		}
		if !fi.Mode().IsRegular() {
			return [HashLen]byte{}, fmt.Errorf("%s is not a regular file", path)
		}
		key := keyOf(path, fi)
		entry := c.entry(key)
		entry.once.Do(func() { entry.sum, entry.err = hashAs(path, key) })
		if entry.err == nil {
			return entry.sum, nil
		}
		c.forget(key, entry)
		if !errors.Is(entry.err, errChanged) {
			return [HashLen]byte{}, entry.err
		}
	}
	return [HashLen]byte{}, fmt.Errorf("%s: %w", path, errChanged)
}

func (c *HashCache) entry(key fileKey) *cachedHash {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.files[key]; e != nil {
		return e
	}
	if c.files == nil || len(c.files) >= maxCached {
		c.files = make(map[fileKey]*cachedHash)
	}
	e := new(cachedHash)
	c.files[key] = e
	return e
}

func (c *HashCache) forget(key fileKey, failed *cachedHash) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.files[key] == failed {
		delete(c.files, key)
	}
}

// hashAs hashes the file at path if it is the one of key before and after.
func hashAs(path string, key fileKey) (sum [HashLen]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	if !isFile(f, path, key) {
		return sum, errChanged
	}
	if sum, err = contentHash(f); err != nil {
		return sum, err
	}
	if !isFile(f, path, key) {
		return sum, errChanged
	}
	return sum, nil
}

func isFile(f *os.File, path string, key fileKey) bool {
	fi, err := f.Stat()
	return err == nil && keyOf(path, fi) == key
}
