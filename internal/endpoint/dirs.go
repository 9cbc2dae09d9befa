package endpoint

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Sources of a service definition directory, as admin CONFIG reports them.
const (
	SourceFlag    = "flag:--service-def-dir"
	SourceEnv     = "env:" + ServiceDefVariable
	SourceDefault = "platform-default"
)

// ServiceDefinitionDir returns the directory of service definitions and which
// rule chose it: SourceEnv or SourceDefault. The directory may not exist.
func ServiceDefinitionDir() (dir, source string, err error) {
	return thisHost().serviceDefinitionDir()
}

func (h host) serviceDefinitionDir() (dir, source string, err error) {
	if v, ok := h.lookup(ServiceDefVariable); ok {
		if v == "" {
			return "", "", fmt.Errorf("%s is set but empty: set it to a directory or unset it", ServiceDefVariable)
		}
		return v, SourceEnv, nil
	}
	base, err := h.configHome()
	if err != nil {
		return "", "", fmt.Errorf("service definition directory is unknown (set %s): %w", ServiceDefVariable, err)
	}
	return filepath.Join(base, "running-process", "services"), SourceDefault, nil
}

func (h host) configHome() (string, error) {
	switch h.goos {
	case "windows":
		if v, ok := h.lookup("APPDATA"); ok && v != "" {
			return v, nil
		}
		return "", errors.New("APPDATA is not set")
	case "darwin":
		home, err := h.home()
		return filepath.Join(home, "Library", "Application Support"), err
	}
	if v, ok := h.lookup("XDG_CONFIG_HOME"); ok && v != "" {
		return v, nil
	}
	home, err := h.home()
	return filepath.Join(home, ".config"), err
}

// StateDir is the directory of usher's state; only its file system is looked at.
// It may not exist.
func StateDir() (string, error) { return thisHost().stateDir() }

func (h host) stateDir() (string, error) {
	if h.goos == "windows" {
		if v, ok := h.lookup("LOCALAPPDATA"); ok && v != "" {
			return filepath.Join(v, "running-process"), nil
		}
		return "", errors.New("LOCALAPPDATA is not set")
	}
	if v, ok := h.lookup("XDG_STATE_HOME"); ok && v != "" {
		return filepath.Join(v, "running-process"), nil
	}
	home, err := h.home()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, ".local", "state", "running-process"), nil
}
