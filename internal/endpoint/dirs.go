package endpoint

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Sources of a service definition directory, as admin CONFIG reports them.
const (
	SourceFlag    = "flag:--service-def-dir"
	SourceEnv     = "env:" + ServiceDefVariable
	SourceDefault = "platform-default"
)

// ServiceDefinitionDir returns the directory of service definitions and which
// rule chose it: SourceEnv or SourceDefault. The directory may not exist.
// Errors: *VariableError; no home directory.
func ServiceDefinitionDir() (dir, source string, err error) {
	return thisHost().serviceDefinitionDir()
}

func (h host) serviceDefinitionDir() (dir, source string, err error) {
	if dir, err = h.directory(ServiceDefVariable); dir != "" || err != nil {
		return dir, SourceEnv, err
	}
	base, err := h.configHome()
	if err != nil {
		return "", "", fmt.Errorf("service definition directory is unknown (set %s): %w", ServiceDefVariable, err)
	}
	return filepath.Join(base, "running-process", "services"), SourceDefault, nil
}

// ConfigHome is the directory of the user's settings. It may not exist. Errors:
// *VariableError; no home directory.
func ConfigHome() (string, error) { return thisHost().configHome() }

func (h host) configHome() (string, error) {
	switch h.goos {
	case "windows":
		return h.required("APPDATA")
	case "darwin":
		return h.homeBelow("Library/Application Support")
	}
	if dir, err := h.directory("XDG_CONFIG_HOME"); dir != "" || err != nil {
		return dir, err
	}
	return h.homeBelow(".config")
}

// required is directory where there is nothing else to go by.
func (h host) required(variable string) (string, error) {
	dir, err := h.directory(variable)
	if dir == "" && err == nil {
		err = fmt.Errorf("%s is not set", variable)
	}
	return dir, err
}

// StateDir is the directory of usher's state; only its file system is looked at.
// It may not exist.
func StateDir() (string, error) { return thisHost().stateDir() }

// InstanceStateDir is the part of StateDir that is one broker's, by the name of its
// instance: its events, and the logs of what it starts.
func InstanceStateDir(instance string) (string, error) {
	state, err := StateDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(state, strings.ReplaceAll(instance, ":", "-")), nil
}

func (h host) stateDir() (dir string, err error) {
	if h.goos == "windows" {
		dir, err = h.required("LOCALAPPDATA")
	} else if dir, err = h.directory("XDG_STATE_HOME"); dir == "" && err == nil {
		dir, err = h.homeBelow(".local/state")
	}
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "running-process"), nil
}
