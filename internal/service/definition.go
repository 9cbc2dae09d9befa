package service

import (
	"errors"
	"path/filepath"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/wire"
)

// Definition is one service definition as loaded. It is not changed after Load
// and may be shared.
type Definition struct {
	*wire.ServiceDefinition
	Path string // the file it comes from
}

// Instance is the broker instance that serves the definition (spec 03 §1).
// The error is the {error} of spec 01 §7.1, row 24.
func (d *Definition) Instance() (endpoint.Instance, error) {
	switch d.Isolation {
	case wire.BrokerIsolation_PRIVATE_BROKER:
		return endpoint.Private(d.ServiceName)
	case wire.BrokerIsolation_SHARED_BROKER:
		return endpoint.Shared(), nil
	case wire.BrokerIsolation_EXPLICIT_INSTANCE:
		i, err := endpoint.Explicit(d.ExplicitInstance)
		if err != nil {
			return endpoint.Instance{}, errors.New("invalid instance name")
		}
		return i, nil
	}
	return endpoint.Instance{}, errors.New("invalid isolation")
}

// validate checks the content of a definition that was asked for as name, in the
// order of spec 03 §6. In a .servicedef.v2 file v1 judges the name only; what is
// wrong beyond shows when it is used (Instance, CheckUsable).
func validate(d *wire.ServiceDefinition, name string, nameOnly bool) error {
	if err := names.ServiceName(d.ServiceName); err != nil {
		return err
	}
	if d.ServiceName != name {
		return &NameMismatchError{Requested: name, Declared: d.ServiceName}
	}
	if nameOnly {
		return nil
	}
	if d.BinaryPath == "" {
		return &PathError{Field: "binary_path", Reason: "must not be empty"}
	}
	if err := absolute("binary_path", d.BinaryPath); err != nil {
		return err
	}
	if dir := d.PerVersionBinaryDir; dir != "" {
		if err := absolute("per_version_binary_dir", dir); err != nil {
			return err
		}
	}
	if err := checkVersions(d); err != nil {
		return err
	}
	return checkIsolation(d)
}

func absolute(field, path string) error {
	if !filepath.IsAbs(path) {
		return &PathError{Field: field, Path: path, Reason: "must be absolute"}
	}
	return nil
}

func checkVersions(d *wire.ServiceDefinition) error {
	if v := d.MinVersion; v != "" {
		if err := names.Version(v); err != nil {
			return err
		}
	}
	for _, v := range d.VersionAllowList {
		if err := names.Version(v); err != nil {
			return err
		}
	}
	return nil
}

func checkIsolation(d *wire.ServiceDefinition) error {
	instance := d.ExplicitInstance
	switch d.Isolation {
	case wire.BrokerIsolation_EXPLICIT_INSTANCE:
		if instance == "" {
			return &IsolationError{Reason: "an explicit instance needs a name in explicit_instance"}
		}
		return names.ServiceName(instance)
	case wire.BrokerIsolation_PRIVATE_BROKER, wire.BrokerIsolation_SHARED_BROKER:
		if instance != "" {
			return &IsolationError{Reason: "explicit_instance must be empty unless the isolation is explicit"}
		}
		return nil
	}
	return &IsolationError{Reason: "the number is not 0, 1 or 2"}
}
