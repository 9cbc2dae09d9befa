//go:build !unix && !windows

package launch

import (
	"errors"
	"io/fs"
	"os"
)

// program stands for an opened executable, which this system runs by its path alone.
type program struct{}

func reopen(*os.File, string, []*os.File) (program, error) { return program{}, nil }

func (program) path(own string) string { return own }

func (program) close() {}

// FileID answers errors.ErrUnsupported.
func FileID(string, fs.FileInfo) ([]byte, error) { return nil, errors.ErrUnsupported }

// CloseStray does nothing: this system does not list the descriptors of a process.
func CloseStray(...int) error { return nil }

// SetName does nothing: this system names a process by its file.
func SetName(string) {}

// OwnImage is path: this system does not lead to the file itself.
func OwnImage(path string) string { return path }

// Duplicate answers errors.ErrUnsupported.
func Duplicate(*os.File) (*os.File, error) { return nil, errors.ErrUnsupported }

// Lacks names what Linux has for this package and this system has not, for people.
func Lacks() []string { return nil }
