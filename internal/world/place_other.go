//go:build !windows

package world

import (
	"os"
	"path/filepath"
)

// directoryVariables name the directories of which usher has one each for sockets,
// definitions and logs.
var directoryVariables = []string{"XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", stateVariable}

const (
	stateVariable    = "XDG_STATE_HOME"
	socketSuffix     = ".sock"
	executableSuffix = ""
)

// maxDir is the longest directory that leaves room for the longest name of a socket in it,
// in bytes: that of a pipe which a backend has chosen.
const maxDir = 107 - len("/running-process/broker/rpb-v1-0123456789abcdef-be-0123456789abcdef0123456789abcdef.sock")

func socketsOf(dir string) string { return dir + string(filepath.Separator) }

// ToolName is the name of a World's tool: the directories of its sockets tell it from others.
func (w *World) ToolName(name string) string { return name }

func takePlace(fresh, path string) error { return os.Rename(fresh, path) }

func removeAll(dir string) error { return os.RemoveAll(dir) }

// group is empty: processes that outlive their parents are found by their environment.
type group struct{}

func newGroup() (group, error) { return group{}, nil }

func (group) add(int) error { return nil }

func (group) end() {}
