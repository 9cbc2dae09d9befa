// Lookup finds words in the files below a directory:
//
//	lookup [-root DIR] [-timeout 20s] WORD …
//
// prints where all of the words stand on one line, as PATH:LINE. The first call for a directory
// starts a daemon that keeps an index of it in memory; later ones read only what has changed.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/seed-7265657e/usher"
)

var tool = usher.Tool{Name: "lookup", Version: "1.0.0", Serve: serve}

// serve is the daemon. The directory is the one that it works in.
func serve(_ context.Context, ln net.Listener) error {
	ix := new(index)
	if ix.refresh(); len(ix.files) == 0 {
		return errors.New("no text to index") // told to all who wait for this daemon
	}
	return http.Serve(ln, ix)
}

func main() {
	tool.Main() // does not return in a process that was started as broker or daemon
	if err := call(); err != nil {
		fmt.Fprintln(os.Stderr, "lookup:", err)
		os.Exit(1)
	}
}

// call asks the daemon of the directory.
func call() error {
	root := flag.String("root", ".", "the `directory`")
	timeout := flag.Duration("timeout", 20*time.Second, "how long the call may take")
	flag.Parse()
	dir, err := filepath.Abs(*root)
	if err != nil {
		return err
	}
	if tool.Dir, err = filepath.EvalSymlinks(dir); err != nil { // one directory, one daemon
		return err
	}
	client := http.Client{Transport: &http.Transport{DialContext: tool.HTTP()}, Timeout: *timeout}
	resp, err := client.Get("http://lookup/?" + url.Values{"word": flag.Args()}.Encode())
	if err != nil {
		return fmt.Errorf("ask the daemon of %s: %w", tool.Dir, err)
	}
	defer resp.Body.Close()
	_, err = io.Copy(os.Stdout, resp.Body)
	return err
}

// index has the words of every file below the working directory.
type index struct {
	mu    sync.Mutex // one call at a time
	files map[string]*file
}

// file is what one was when it was read.
type file struct {
	size    int64
	changed time.Time
	lines   map[string][]int // a word's lines, ascending
}

func (ix *index) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.refresh()
	words := r.URL.Query()["word"]
	for _, name := range slices.Sorted(maps.Keys(ix.files)) {
		for _, line := range ix.files[name].with(words) {
			fmt.Fprintf(w, "%s:%d\n", name, line)
		}
	}
}

// refresh reads what has changed, and forgets what is gone. What can't be read has no words.
func (ix *index) refresh() {
	files := make(map[string]*file)
	_ = filepath.WalkDir(".", func(name string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && name != ".":
			return filepath.SkipDir
		}
		info, err := d.Info()
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		f := ix.files[name]
		if f == nil || f.size != info.Size() || !f.changed.Equal(info.ModTime()) {
			f = &file{info.Size(), info.ModTime(), read(name)}
		}
		files[name] = f
		return nil
	})
	ix.files = files
}

// read returns the lines of each word of a file; none where it is no text.
func read(name string) map[string][]int {
	lines := make(map[string][]int)
	text, err := os.ReadFile(name)
	if err != nil || bytes.IndexByte(text, 0) >= 0 {
		return lines
	}
	for i, line := range strings.Split(string(text), "\n") {
		for _, word := range strings.FieldsFunc(line, isBetween) {
			if at := lines[word]; len(at) == 0 || at[len(at)-1] != i+1 {
				lines[word] = append(at, i+1)
			}
		}
	}
	return lines
}

func isBetween(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_' }

// with returns the lines that have all of the words.
func (f *file) with(words []string) (lines []int) {
	for i, word := range words {
		if i == 0 {
			lines = slices.Clone(f.lines[word])
		}
		lines = slices.DeleteFunc(lines, func(n int) bool { return !slices.Contains(f.lines[word], n) })
	}
	return lines
}
