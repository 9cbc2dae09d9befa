package service

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/natefinch/atomic"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/wire"
)

// Format is how Save writes a definition.
type Format int

const (
	Binary Format = iota // NAME.servicedef, which every v1 program reads
	TOML                 // NAME.toml, which only usher reads
)

func (f Format) suffix() string {
	if f == TOML {
		return suffixTOML
	}
	return suffixV1
}

// Listed is one service of a directory: a definition, or why it does not load.
type Listed struct {
	Name       string
	Definition *Definition
	Err        error
}

// List loads every definition in dir, sorted by name. A missing directory is
// empty. Errors: *InsecureDirectoryError, *IOError.
func List(dir string) ([]Listed, error) {
	if err := checkDir(dir); errors.Is(err, ErrNotFound) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, &IOError{Err: err}
	}
	var found []string
	for _, entry := range entries {
		for _, suffix := range suffixes {
			if name, ok := strings.CutSuffix(entry.Name(), suffix); ok {
				found = append(found, name)
			}
		}
	}
	slices.Sort(found)
	found = slices.Compact(found)
	all := make([]Listed, 0, len(found))
	for _, name := range found {
		d, err := Load(dir, name)
		all = append(all, Listed{Name: name, Definition: d, Err: err})
	}
	return all, nil
}

// Save validates d and writes it to dir, which is made private first. The file
// is replaced in one step. A definition of the same service in another format is
// an error: one of the two would be ignored. Save returns the file's path.
// Errors: *names.InvalidError, *PathError, *IsolationError, *LabelError,
// *ConflictError, *IOError.
func Save(dir string, d *wire.ServiceDefinition, format Format) (string, error) {
	if err := validate(d, d.ServiceName, false); err != nil {
		return "", err
	}
	if _, err := (&Definition{ServiceDefinition: d}).HandoffPolicy(); err != nil {
		return "", err
	}
	if _, err := (&Definition{ServiceDefinition: d}).StartPolicy(); err != nil {
		return "", err
	}
	if err := endpoint.EnsurePrivate(dir); err != nil {
		return "", &IOError{Err: err}
	}
	path := filepath.Join(dir, d.ServiceName+format.suffix())
	for _, suffix := range suffixes {
		if other := filepath.Join(dir, d.ServiceName+suffix); other != path && exists(other) {
			return "", &ConflictError{Path: path, Other: other}
		}
	}
	content, err := encode(d, format)
	if err != nil {
		return "", &IOError{Err: err}
	}
	if err := atomic.WriteFile(path, bytes.NewReader(content)); err != nil {
		return "", &IOError{Err: err}
	}
	return path, nil
}

func encode(d *wire.ServiceDefinition, format Format) ([]byte, error) {
	if format == TOML {
		return encodeTOML(d)
	}
	return wire.Append(nil, d)
}

// Remove deletes every file that defines the service. Errors:
// *names.InvalidError, ErrNotFound when there is none, *IOError.
func Remove(dir, name string) error {
	if err := names.ServiceName(name); err != nil {
		return err
	}
	removed := false
	for _, suffix := range suffixes {
		switch err := os.Remove(filepath.Join(dir, name+suffix)); {
		case err == nil:
			removed = true
		case !errors.Is(err, fs.ErrNotExist):
			return &IOError{Err: err}
		}
	}
	if !removed {
		return ErrNotFound
	}
	return nil
}
