package service

import (
	"errors"
	"path/filepath"

	"github.com/seed-7265657e/usher/internal/brokerpb"
	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/names"
)

// Definition is one service definition as loaded. It is not changed after Load
// and may be shared.
type Definition struct {
	*brokerpb.ServiceDefinition
	Path string // the file it comes from
}

// Instance is the broker instance that serves the definition (spec 03 §1).
// The error is the {error} of spec 01 §7.1, row 24.
func (d *Definition) Instance() (endpoint.Instance, error) {
	switch d.GetIsolation() {
	case brokerpb.BrokerIsolation_PRIVATE_BROKER:
		return endpoint.Private(d.GetServiceName())
	case brokerpb.BrokerIsolation_SHARED_BROKER:
		return endpoint.Shared(), nil
	case brokerpb.BrokerIsolation_EXPLICIT_INSTANCE:
		i, err := endpoint.Explicit(d.GetExplicitInstance())
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
func validate(d *brokerpb.ServiceDefinition, name string, nameOnly bool) error {
	if err := names.ServiceName(d.GetServiceName()); err != nil {
		return err
	}
	if d.GetServiceName() != name {
		return &NameMismatchError{Requested: name, Declared: d.GetServiceName()}
	}
	if nameOnly {
		return nil
	}
	if d.GetBinaryPath() == "" {
		return &PathError{Field: "binary_path", Reason: "must not be empty"}
	}
	if err := absolute("binary_path", d.GetBinaryPath()); err != nil {
		return err
	}
	if dir := d.GetPerVersionBinaryDir(); dir != "" {
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

func checkVersions(d *brokerpb.ServiceDefinition) error {
	if v := d.GetMinVersion(); v != "" {
		if err := names.Version(v); err != nil {
			return err
		}
	}
	for _, v := range d.GetVersionAllowList() {
		if err := names.Version(v); err != nil {
			return err
		}
	}
	return nil
}

func checkIsolation(d *brokerpb.ServiceDefinition) error {
	instance := d.GetExplicitInstance()
	switch d.GetIsolation() {
	case brokerpb.BrokerIsolation_EXPLICIT_INSTANCE:
		if instance == "" {
			return &IsolationError{Reason: "an explicit instance needs a name in explicit_instance"}
		}
		return names.ServiceName(instance)
	case brokerpb.BrokerIsolation_PRIVATE_BROKER, brokerpb.BrokerIsolation_SHARED_BROKER:
		if instance != "" {
			return &IsolationError{Reason: "explicit_instance must be empty unless the isolation is explicit"}
		}
		return nil
	}
	return &IsolationError{Reason: "the number is not 0, 1 or 2"}
}
