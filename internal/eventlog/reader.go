package eventlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/watch"
	"github.com/seed-7265657e/usher/internal/wire"
)

// Read calls each with every event of the file at path, the oldest first, those that were
// moved away included. A file that is not there has none. Bytes that are no event, as a
// full disk leaves them, are passed over. The error is each's, or why a file can't be read.
func Read(path string, each func(*wire.LifecycleEvent) error) error {
	return (&reader{path: path, each: each}).read()
}

// Follow is Read, and goes on with what is written until ctx ends; then its error is nil.
// The file need not be there yet. It sleeps while nothing is written, or looks every second
// where files can't be watched.
func Follow(ctx context.Context, path string, each func(*wire.LifecycleEvent) error) error {
	w, err := watch.NewFollower()
	if err != nil {
		return fmt.Errorf("follow %s: %w", path, err)
	}
	defer w.Close()
	r := &reader{path: path, each: each}
	for { // watched first: what is written behind the look is told
		if err := watchName(w, path); err != nil {
			return err
		}
		if err := r.read(); err != nil {
			return err
		}
		switch err := w.Wait(ctx); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("follow %s: %w", path, err)
		}
	}
}

// watchName has w tell what comes to path, or what makes the directory for it.
func watchName(w *watch.Waiter, path string) error {
	err := w.AddName(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err = watchName(w, filepath.Dir(path)); err != nil {
		return err
	}
	if err = w.AddName(path); errors.Is(err, fs.ErrNotExist) { // else it was made meanwhile
		return nil
	}
	return err
}

// reader is how far a file of events has been read. Its content moves to a second file
// now and then, at once: a copy takes the second one's place, and then the first is cut.
type reader struct {
	path  string
	each  func(*wire.LifecycleEvent) error
	begun bool
	moved fs.FileInfo // the second file as it was read; nil for none
	next  int64       // byte of the first one that was not read
}

// read reads all there is that was not read.
func (r *reader) read() error {
	for {
		moved, err := r.readMoved()
		if err != nil {
			return err
		}
		content, err := r.content(moved)
		if err != nil {
			return err
		}
		if now, err := stat(logfile.Older(r.path)); err != nil {
			return err
		} else if !same(now, moved) { // content may be that of either
			continue
		}
		n, err := r.say(content)
		r.next += int64(n)
		return err
	}
}

// readMoved reads on in the second file when it is another one than before, which is
// where r was in the first.
func (r *reader) readMoved() (fs.FileInfo, error) {
	f, err := os.Open(logfile.Older(r.path))
	if errors.Is(err, fs.ErrNotExist) {
		r.begun = true
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	moved, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if r.begun && same(moved, r.moved) {
		return moved, nil
	}
	content, err := io.ReadAll(io.NewSectionReader(f, r.next, max(0, moved.Size()-r.next)))
	if err != nil {
		return nil, err
	}
	r.begun, r.moved, r.next = true, moved, 0
	_, err = r.say(content)
	return moved, err
}

// content is what the first file has from r.next on.
func (r *reader) content(moved fs.FileInfo) ([]byte, error) {
	f, err := os.Open(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		r.next = 0
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case fi.Size() < r.next: // it was emptied
		r.next = 0
	case moved != nil && fi.Size() > maxFile && fi.Size() == moved.Size(): // it is about to be
		return nil, nil
	}
	return io.ReadAll(io.NewSectionReader(f, r.next, fi.Size()-r.next))
}

// say hands the events of content out, and returns how much of it is done with.
func (r *reader) say(content []byte) (done int, err error) {
	for at := 0; at < len(content); {
		e, n := decode(content[at:])
		if e == nil { // damaged, or not whole yet: an event may begin at the next byte
			at++
			continue
		}
		at += n
		done = at
		if err := r.each(e); err != nil {
			return done, err
		}
	}
	return done, nil
}

func stat(path string) (fs.FileInfo, error) {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return fi, err
}

// same reports whether two states are of one file, unchanged; nil is that of none.
func same(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
