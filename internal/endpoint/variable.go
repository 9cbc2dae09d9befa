package endpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// VariableError reports an environment variable that leads where this process
// can't go.
type VariableError struct {
	Variable string
	Reason   string // with what it is set to, for example `is "run", a relative path`
	Fix      string
	Err      error // what was refused; nil when nothing was tried
}

func (e *VariableError) Error() string {
	text := fmt.Sprintf("%s %s: %s", e.Variable, e.Reason, e.Fix)
	if e.Err != nil {
		return fmt.Sprintf("%v; %s", e.Err, text)
	}
	return text
}

// Unwrap returns what was refused.
func (e *VariableError) Unwrap() error { return e.Err }

// directory returns the path that a variable names, or "" when it is unset. Empty
// counts as unset, as the XDG specification says; a relative path would mean
// something else in each process, and is an error. Errors: *VariableError.
func (h host) directory(variable string) (string, error) {
	path, _ := h.lookup(variable)
	if path == "" || h.isAbs(path) {
		return path, nil
	}
	return "", &VariableError{
		Variable: variable, Reason: fmt.Sprintf("is %q, a relative path", path),
		Fix: "set it to an absolute path, or unset it",
	}
}

// homeBelow is a path in the user's home directory.
func (h host) homeBelow(rest string) (string, error) {
	home, err := h.home()
	if err != nil {
		return "", &VariableError{Variable: "HOME", Reason: "is not set", Fix: "set it to your home directory"}
	}
	if !h.isAbs(home) {
		return "", &VariableError{Variable: "HOME", Reason: fmt.Sprintf("is %q, a relative path", home), Fix: "set it to your home directory"}
	}
	return join(home, rest), nil
}

// isAbs tells for any operating system, unlike filepath.IsAbs.
func (h host) isAbs(path string) bool {
	if h.goos != "windows" {
		return strings.HasPrefix(path, "/")
	}
	path = strings.ReplaceAll(path, `\`, "/")
	return strings.HasPrefix(path, "//") || len(path) > 2 && path[1] == ':' && path[2] == '/'
}

// explain adds to the refusal of a path which variable led there, or is missing:
// after su, in a job that carries along the environment of another user, in a user
// namespace, that is what must be changed. Other errors stay as they are.
func (h host) explain(path string, err error) error {
	var insecure *InsecureDirError
	foreign := errors.As(err, &insecure) && insecure.foreign
	variable := h.variableOf(path)
	switch missing := errors.Is(err, fs.ErrNotExist); {
	case missing && variable != SocketVariable && h.derived(path) && h.mapped():
		return &VariableError{
			Variable: SocketVariable, Reason: fmt.Sprintf("is not set, and in this user namespace you are user %d", h.uid),
			Fix: "set it to the broker's socket, whose name comes from your user id outside", Err: err,
		}
	case !foreign && !errors.Is(err, fs.ErrPermission):
		return err
	case variable != "":
		return &VariableError{
			Variable: variable, Reason: fmt.Sprintf("leads user %d there", h.uid),
			Fix: "unset it if it is another user's, or set it to a directory of your own", Err: err,
		}
	case h.derived(path):
		return &VariableError{Variable: "XDG_RUNTIME_DIR", Reason: "is not set", Fix: "set it to a directory of your own", Err: err}
	}
	return err
}

// derived reports whether path is a socket's that this package named.
func (h host) derived(path string) bool {
	some, err := h.socketPath("x")
	return err == nil && (h.goos == "linux" || h.isBSD()) && strings.HasPrefix(path, strings.TrimSuffix(some, "x.sock"))
}

// variableOf is the variable that path was made of, or "".
func (h host) variableOf(path string) string {
	for _, v := range []struct{ name, below string }{
		{SocketVariable, ""}, {ServiceDefVariable, ""},
		{"XDG_RUNTIME_DIR", "running-process"}, {"TMPDIR", h.tempDir()},
		{"XDG_CONFIG_HOME", "running-process"}, {"XDG_STATE_HOME", "running-process"},
	} {
		base, _ := h.lookup(v.name)
		if base == "" {
			continue
		}
		if v.below != "" {
			base = join(base, v.below)
		}
		if path == base || strings.HasPrefix(path, join(base, "")) {
			return v.name
		}
	}
	return ""
}
