package broker

import (
	"time"

	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/stamp"
	"github.com/seed-7265657e/usher/internal/watch"
)

// definitions is the cache of service definitions. It holds them for as long as their
// files are unchanged, so that a Hello costs no reading. What changes on disk holds from
// the next Hello on: the files, and the ways to them, are watched, and whenever anything
// happened there, stat says whether it concerns the service. What no watch tells (see
// package watch) holds within recheck.
type definitions struct {
	dir     string
	watch   *watch.Watch // nil where there is none: then stat is asked each time
	changes uint64       // how often the watch has told of something, and one
	known   map[string]*cached
}

const (
	// maxCached bounds the cache; a full one starts over.
	maxCached = 1024
	recheck   = 100 * time.Millisecond
)

// cached is a definition with the state of its files.
type cached struct {
	definition        *definition
	dir, file, binary stamp.Stamp

	checked time.Time // when stat last agreed
	changes uint64    // at the last attempt to watch
	watched bool      // it succeeded
}

// open begins to watch. Without a watch everything works, more slowly.
func (d *definitions) open() (err error) {
	d.changes = 1
	d.watch, err = watch.New()
	return err
}

func (d *definitions) close() {
	if d.watch != nil {
		d.watch.Close()
		d.watch = nil
	}
}

// lookup returns the definition that is known and still true, or nil. It reads no file,
// and asks no file system that might not answer.
func (d *definitions) lookup(name string, now time.Time) *definition {
	c := d.known[name]
	if c == nil {
		return nil
	}
	d.look()
	switch {
	case c.changes != d.changes: // watch again before stat is asked, so that nothing falls between
		c.changes = d.changes
		c.watched = d.watch != nil && d.watch.Add(d.dir, c.definition.service.Path, c.definition.service.BinaryPath) == nil
	case c.watched && now.Sub(c.checked) < recheck:
		return c.definition
	}
	if stamp.Of(d.dir) != c.dir || stamp.Of(c.definition.service.Path) != c.file || stamp.Of(c.definition.service.BinaryPath) != c.binary {
		// It must not be taken for true again, by a Hello that comes before stat is to
		// be asked the next time.
		delete(d.known, name)
		return nil
	}
	c.checked = now
	return c.definition
}

// look takes in what the watch tells.
func (d *definitions) look() {
	if d.watch != nil && d.watch.Changed() {
		d.changes++
	}
}

// era is a number that stays what it is for as long as nothing has happened to the files of a
// service's definition, which is of, or on the ways to them. It is 0 where no watch tells.
func (d *definitions) era(name string, of *service.Definition) uint64 {
	d.look()
	if c := d.known[name]; c != nil && c.definition.service == of && c.watched && c.changes == d.changes {
		return d.changes
	}
	return 0
}

// holds reports whether d is what is known of a service, if it is still true.
func (d *definitions) holds(name string, of *service.Definition) bool {
	c := d.known[name]
	return c != nil && c.definition.service == of
}

// store keeps what a job has read; nil is not kept.
func (d *definitions) store(name string, c *cached) {
	if c == nil {
		return
	}
	if d.known == nil || len(d.known) >= maxCached {
		d.known = make(map[string]*cached)
	}
	d.known[name] = c
}
