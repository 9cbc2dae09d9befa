//go:build linux && !usher_portable

package watch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxLinks is how many symbolic links are followed on one path, as in the kernel.
const maxLinks = 40

var errTooManyLinks = errors.New("too many symbolic links")

// kind is what a place on the way to a file is.
type kind int

const (
	passed   kind = iota // a directory, or a link: only what becomes of itself matters
	searched             // the directory that holds the file: what happens to its name matters as well
	wanted               // the file itself
)

// steps calls visit with everything that is passed on the way to path, from the root on,
// links included, before it looks what that is; with the directory that holds the file, and
// the name that is looked for in it; and with the file. So nothing that is replaced
// meanwhile goes unseen by who watches what was visited.
func steps(path string, visit func(place, name string, what kind) error) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is not an absolute path", path)
	}
	at, rest, links := "/", path, 0
	for {
		var name string
		for rest != "" && (name == "" || name == ".") {
			name, rest, _ = strings.Cut(rest, "/")
		}
		switch name {
		case "", ".":
			return visit(at, "", wanted)
		case "..":
			at = filepath.Dir(at) // at holds no link
			continue
		}
		what := passed
		if strings.Trim(rest, "/.") == "" {
			what = searched
		}
		if err := visit(at, name, what); err != nil {
			return err
		}
		next := filepath.Join(at, name)
		if err := visit(next, "", passed); err != nil {
			return err
		}
		switch target, err := os.Readlink(next); {
		case err != nil: // no link; or not there any more, as visit will find
			at = next
		case links == maxLinks:
			return fmt.Errorf("%s: %w", path, errTooManyLinks)
		default:
			links++
			rest = target + "/" + rest
			if filepath.IsAbs(target) {
				at = "/"
			}
		}
	}
}
