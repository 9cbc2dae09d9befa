package service

import (
	"path/filepath"
	"strconv"
	"strings"
)

// Labels that steer handoffs (spec 02 §13). Other labels are the user's own.
const (
	labelEnabled     = "handoff.enabled"
	labelMaxAttempts = "handoff.max_attempts_per_minute"
	labelFDPressure  = "handoff.disable_under_fd_pressure"
)

// Setting is a switch that may be left alone.
type Setting int

const (
	Unset Setting = iota // the broker's own default holds
	On
	Off
)

// HandoffPolicy is what a definition's labels say about handoffs.
type HandoffPolicy struct {
	Enabled                Setting
	MaxAttemptsPerMinute   int // 0: not limited by the definition
	DisableUnderFDPressure bool
}

// HandoffPolicy reads the labels. Errors: *LabelError.
func (d *Definition) HandoffPolicy() (HandoffPolicy, error) {
	var p HandoffPolicy
	var err error
	labels := d.Labels
	if p.Enabled, err = setting(labels, labelEnabled); err != nil {
		return HandoffPolicy{}, err
	}
	pressure, err := setting(labels, labelFDPressure)
	if err != nil {
		return HandoffPolicy{}, err
	}
	p.DisableUnderFDPressure = pressure == On
	if value, ok := labels[labelMaxAttempts]; ok {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 {
			return HandoffPolicy{}, &LabelError{Label: labelMaxAttempts, Value: value, Want: "a whole number above 0"}
		}
		p.MaxAttemptsPerMinute = n
	}
	return p, nil
}

func setting(labels map[string]string, label string) (Setting, error) {
	switch value, ok := labels[label]; {
	case !ok:
		return Unset, nil
	case value == "true":
		return On, nil
	case value == "false":
		return Off, nil
	default:
		return Unset, &LabelError{Label: label, Value: value, Want: "true or false"}
	}
}

// AllowsExecutable decides whether a process may serve the definition (spec 01
// §7.1, row 25): its executable is the file at binary_path as it is now, or lies
// below per_version_binary_dir. exePath is canonical, as the system reports it;
// binaryHash is all zero when binary_path can't be read, which matches nothing.
func (d *Definition) AllowsExecutable(exePath string, exeHash, binaryHash [32]byte) bool {
	if binaryHash != [32]byte{} && exeHash == binaryHash {
		return true
	}
	dir := d.PerVersionBinaryDir
	return filepath.IsAbs(dir) && filepath.IsAbs(exePath) && isBelow(exePath, dir)
}

func isBelow(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != "." && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
