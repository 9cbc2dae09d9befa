package service

import (
	"errors"
	"fmt"
)

// The texts of the errors of Load are part of the protocol: a client reads them
// in the refusal of spec 01 §7.1, row 21. A bad name or version inside a
// definition is a *names.InvalidError (row 19).

var (
	// ErrNotFound reports that no definition of the service exists (row 20).
	ErrNotFound = errors.New("service definition was not found: install one, or check which directory is in use")
	// ErrBelowMinVersion reports a version below min_version (row 22).
	ErrBelowMinVersion = errors.New("wanted_version is below min_version")
	// ErrOutsideAllowList reports a version that is not in version_allow_list
	// (row 23).
	ErrOutsideAllowList = errors.New("wanted_version is not in version_allow_list")
)

// IOError reports a definition that can't be read or written.
type IOError struct {
	Err error
}

func (e *IOError) Error() string { return fmt.Sprintf("service-definition I/O failed: %v", e.Err) }
func (e *IOError) Unwrap() error { return e.Err }

// DecodeError reports content that is not of the file's format.
type DecodeError struct {
	Format string // "protobuf" or "TOML"
	Err    error
}

func (e *DecodeError) Error() string {
	return fmt.Sprintf("service-definition %s decode failed: %v", e.Format, e.Err)
}
func (e *DecodeError) Unwrap() error { return e.Err }

// InsecureDirectoryError reports a directory of definitions that others can read
// or change. Err says what is wrong and what to do.
type InsecureDirectoryError struct {
	Path string
	Err  error
}

func (e *InsecureDirectoryError) Error() string {
	return "service-definition directory has insecure permissions: " + e.Path
}
func (e *InsecureDirectoryError) Unwrap() error { return e.Err }

// NameMismatchError reports a file that defines another service than its name
// says.
type NameMismatchError struct {
	Requested string
	Declared  string
}

func (e *NameMismatchError) Error() string {
	return fmt.Sprintf("service-definition requested %q but file declares %q", e.Requested, e.Declared)
}

// PathError reports a path inside a definition that can't be used.
type PathError struct {
	Field  string // wire name
	Path   string
	Reason string
}

func (e *PathError) Error() string {
	return fmt.Sprintf("service-definition %s is invalid: %s (%s)", e.Field, e.Path, e.Reason)
}

// IsolationError reports an isolation that is unknown or does not go with the
// rest of the definition.
type IsolationError struct {
	Reason string
}

func (e *IsolationError) Error() string {
	return "service-definition isolation is invalid: " + e.Reason
}

// ConflictError reports two files that define the same service, one of which
// would be ignored.
type ConflictError struct {
	Path  string
	Other string
}

func (e *ConflictError) Error() string {
	return fmt.Sprintf("service-definition exists twice: remove %s or %s", e.Path, e.Other)
}

// LabelError reports a label of a definition with a value that usher can't use.
type LabelError struct {
	Label string
	Value string
	Want  string
}

func (e *LabelError) Error() string {
	return fmt.Sprintf("service-definition label %s is %q: use %s", e.Label, e.Value, e.Want)
}
