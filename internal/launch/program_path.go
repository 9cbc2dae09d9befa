//go:build windows || (unix && (!linux || usher_portable))

package launch

import (
	"errors"
	"fmt"
	"os"
)

// program stands for an opened executable, which is run by its path alone.
type program struct{}

// errReplaced says that another file has the path of the one that is to run.
var errReplaced = errors.New("it was replaced, and this system runs what is at the path")

// reopen checks that path leads to f still. On Windows it does from then on, for nobody moves
// or removes a file that is open there; elsewhere it goes unseen that another file comes there
// before the child runs it.
func reopen(f *os.File, path string, _ []*os.File) (program, error) {
	mine, err := f.Stat()
	if err != nil {
		return program{}, err
	}
	there, err := os.Stat(path)
	if err != nil {
		return program{}, err
	}
	if !os.SameFile(mine, there) {
		return program{}, fmt.Errorf("%s: %w", path, errReplaced)
	}
	return program{}, nil
}

func (program) path(own string) string { return own }

func (program) close() {}

// SetName does nothing: the system names a process by its file.
func SetName(string) {}

// OwnImage is path: nothing leads to the file itself.
func OwnImage(path string) string { return path }
