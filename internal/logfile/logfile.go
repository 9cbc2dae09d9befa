// Package logfile keeps what a process that nobody watches says: in a file that is
// bounded, and whose last lines explain its end.
//
// A process writes to its log by itself, through a descriptor that appends, so that it
// goes on when whoever started it has ended. Once the file has grown beyond its bound,
// its content moves to a second file (NAME.1), which replaces the one before, and it
// begins anew; a writer that appends need not know.
//
// A leaf: it imports nothing of usher. Who opens a file closes it.
package logfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Max is the bound of one file, in bytes; a log takes twice as much on disk.
const Max = 1 << 20

// Open opens the log at path for appending, for its owner alone, and makes the directory
// above it. The caller closes it.
func Open(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	f, err := open(path, os.O_APPEND|os.O_CREATE|os.O_RDWR)
	if err != nil {
		return nil, fmt.Errorf("log: %w", err)
	}
	return f, nil
}

// open opens a file to write to it, and none that a link in its place leads to.
func open(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, flags|noFollow, 0o600)
	if err != nil {
		// What the error is called depends on the system: ELOOP, EMLINK or EFTYPE.
		if fi, statErr := os.Lstat(path); statErr == nil && fi.Mode().Type() == fs.ModeSymlink {
			err = fmt.Errorf("%s is a symbolic link, through which nothing is written: remove it (%w)", path, err)
		}
		return nil, err
	}
	return f, nil
}

// Older is the path of what was moved away from the log at path.
func Older(path string) string { return path + ".1" }

// Bound moves the log's content away when it is longer than limit, in bytes. What is
// written between the copy and the cut is lost; processes that append are not disturbed.
func Bound(path string, limit int64) error {
	fi, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && fi.Size() <= limit {
		return nil
	}
	if err == nil {
		err = moveAway(path, limit)
	}
	if err != nil {
		return fmt.Errorf("bound the log: %w", err)
	}
	return nil
}

// moving lets one content be moved away after the other: several may look at one log.
var moving sync.Mutex

// moveAway copies at most the last Max bytes: a process may have filled the disk before
// anybody looked.
func moveAway(path string, limit int64) error {
	moving.Lock()
	defer moving.Unlock()
	from, err := open(path, os.O_RDWR)
	if err != nil {
		return err
	}
	defer from.Close()
	fi, err := from.Stat()
	if err != nil || fi.Size() <= limit { // moved meanwhile
		return err
	}
	begin := max(0, fi.Size()-Max)
	if err := replace(Older(path), io.NewSectionReader(from, begin, fi.Size()-begin)); err != nil {
		return err
	}
	return from.Truncate(0)
}

// replace makes a whole new file of path, or leaves it as it was: who reads it meanwhile
// reads the older one.
func replace(path string, content io.Reader) error {
	fresh := path + ".new"
	_ = os.Remove(fresh) // left by one that was killed, or a link
	to, err := open(fresh, os.O_CREATE|os.O_TRUNC|os.O_WRONLY)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, content)
	if err = errors.Join(err, to.Close()); err == nil {
		err = os.Rename(fresh, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(fresh))
	}
	return nil
}

// KeepNewest removes logs in dir, and what was moved away from them: of those whose file
// names match, the n that were written to last stay. What can't be removed stays, too.
func KeepNewest(dir string, n int, match func(name string) bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var logs []fs.FileInfo
	for _, e := range entries {
		if !match(e.Name()) {
			continue
		}
		if fi, err := e.Info(); err == nil {
			logs = append(logs, fi)
		}
	}
	slices.SortFunc(logs, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, fi := range logs[min(n, len(logs)):] {
		path := filepath.Join(dir, fi.Name())
		_ = os.Remove(path)
		_ = os.Remove(Older(path))
	}
}

// Writer is a log that its own process writes to, bounded at each write. It is safe for
// concurrent use. Its owner closes it.
type Writer struct {
	mu   sync.Mutex
	file *os.File
	size int64
	max  int64
}

// NewWriter opens the log at path, whose files grow to limit bytes each.
func NewWriter(path string, limit int64) (*Writer, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Writer{file: f, size: fi.Size(), max: limit}, nil
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.file.Write(p)
	if w.size += int64(n); err != nil || w.size <= w.max {
		return n, err
	}
	w.size = 0
	return n, Bound(w.file.Name(), w.max)
}

// Close closes the file.
func (w *Writer) Close() error { return w.file.Close() }

const (
	// lastLines and lastBytes are what is shown of a log to explain an end.
	lastLines = 8
	lastBytes = 2 << 10
	// traceBytes are looked through for the beginning of a trace.
	traceBytes = 64 << 10
)

// crash finds where Go's runtime has said why it ends a process, which comes before a trace
// that may be long.
var crash = regexp.MustCompile(`(?m)^(panic|fatal error): (?s:.*?)\n\ngoroutine `)

// OneLine has a text of several lines fit into one.
func OneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), " | ")
}

// Last returns the last lines that were written to the log at path behind byte from, at
// most 8 lines and 2 KiB; "" when there are none, or the log can't be read. Of a Go program
// that has crashed they are the first ones of what its runtime says.
func Last(path string, from int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return ""
	}
	if from > fi.Size() { // it has begun anew since
		from = 0
	}
	begin := max(from, fi.Size()-traceBytes)
	text, err := io.ReadAll(io.NewSectionReader(f, begin, fi.Size()-begin))
	if err != nil {
		return ""
	}
	if at := crash.FindIndex(text); at != nil {
		lines := strings.Split(readable(text[at[0]:min(len(text), at[0]+lastBytes)]), "\n")
		return strings.Join(lines[:min(len(lines), lastLines)], "\n")
	}
	if over := len(text) - lastBytes; over > 0 {
		text, begin = text[over:], begin+int64(over)
	}
	if begin > from { // within a line
		if _, rest, cut := bytes.Cut(text, []byte("\n")); cut {
			text = rest
		}
	}
	lines := strings.Split(readable(text), "\n")
	return strings.Join(lines[max(0, len(lines)-lastLines):], "\n")
}

func readable(text []byte) string {
	return strings.TrimRight(strings.ToValidUTF8(string(text), "�"), "\n")
}
