package service

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/wire"
)

// maxFile is the largest definition that is read, in bytes. Real ones have a few
// hundred.
const maxFile = 1 << 20

// Suffixes of definition files, in the order in which they are looked for.
const (
	suffixV2   = ".servicedef.v2"
	suffixV1   = ".servicedef"
	suffixTOML = ".toml"
)

var suffixes = []string{suffixV2, suffixV1, suffixTOML}

// Load reads the definition of a service anew from dir:
//
//  1. judge the name, then the directory, which must be private
//  2. take NAME.servicedef.v2, else NAME.servicedef, else NAME.toml; a .toml
//     beside one of the others is an error, because it would be ignored
//  3. decode and validate
//
// Errors: *names.InvalidError, ErrNotFound, *InsecureDirectoryError,
// *ConflictError, *IOError, *DecodeError, *NameMismatchError, *PathError,
// *IsolationError.
func Load(dir, name string) (*Definition, error) {
	if err := names.ServiceName(name); err != nil {
		return nil, err
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	for _, suffix := range suffixes {
		path := filepath.Join(dir, name+suffix)
		content, err := readFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, &IOError{Err: err}
		}
		if other := path[:len(path)-len(suffix)] + suffixTOML; suffix != suffixTOML && exists(other) {
			return nil, &ConflictError{Path: path, Other: other}
		}
		d, err := decode(name, suffix, content)
		if err != nil {
			return nil, err
		}
		return &Definition{ServiceDefinition: d, Path: path}, nil
	}
	return nil, ErrNotFound
}

func checkDir(dir string) error {
	err := endpoint.CheckPrivate(dir)
	var insecure *endpoint.InsecureDirError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &insecure):
		return &InsecureDirectoryError{Path: dir, Err: err}
	case errors.Is(err, fs.ErrNotExist):
		return ErrNotFound
	}
	return &IOError{Err: err}
}

// readFile reads a regular file of bounded size.
func readFile(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() { // opening a pipe would block
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxFile)
	}
	return content, err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// decode turns the content of a file into a valid definition of name.
func decode(name, suffix string, content []byte) (*wire.ServiceDefinition, error) {
	if suffix == suffixTOML {
		d, err := decodeTOML(name, content)
		if err != nil {
			return nil, err
		}
		return d, validate(d, name, false)
	}
	d := new(wire.ServiceDefinition)
	if err := wire.Unmarshal(content, d); err != nil {
		return nil, &DecodeError{Format: "protobuf", Err: err}
	}
	return d, validate(d, name, suffix == suffixV2)
}
