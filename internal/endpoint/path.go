package endpoint

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// host is what a path depends on. It is a value so that the rules of every
// operating system can be checked on any of them.
type host struct {
	goos   string
	uid    int // real uid
	home   func() (string, error)
	lookup func(key string) (string, bool)
	mapped func() bool // user ids are others outside: a user namespace
}

func thisHost() host {
	return host{goos: runtime.GOOS, uid: os.Getuid(), home: os.UserHomeDir, lookup: os.LookupEnv, mapped: usersAreMapped}
}

// SocketPath turns a leaf name into the path (Windows: pipe name) of its socket.
// Errors: *PathTooLongError; *VariableError, where the environment names no
// absolute path.
func SocketPath(leaf string) (string, error) { return thisHost().socketPath(leaf) }

// CheckLength reports a path that can't be bound here. Errors: *PathTooLongError.
func CheckLength(path string) error { return thisHost().checkLength(path) }

func (h host) socketPath(leaf string) (path string, err error) {
	switch h.goos {
	case "windows":
		path = `\\.\pipe\` + leaf
	case "darwin":
		base, err := h.directory("TMPDIR")
		if err != nil {
			return "", err
		}
		if base == "" {
			base = "/tmp"
		}
		path = join(base, h.tempDir()+"/"+HashInput(leaf)+".sock")
	default:
		base, err := h.directory("XDG_RUNTIME_DIR")
		if err != nil {
			return "", err
		}
		if base != "" {
			base = join(base, "running-process")
		} else {
			base = "/tmp/running-process-" + strconv.Itoa(h.uid)
		}
		path = join(base, "broker/"+leaf+".sock")
	}
	if err := h.checkLength(path); err != nil {
		return "", err
	}
	return path, nil
}

// backendLeaf is BackendLeaf where v1 defines names. It defines none for the BSDs, whose
// paths are four bytes shorter: there the user's hash is left out, which tells nothing in a
// directory that is the user's own.
func (h host) backendLeaf(hash string, random [randomLen]byte) (string, error) {
	leaf, err := BackendLeaf(hash, random)
	if h.isBSD() {
		leaf = strings.Replace(leaf, hash+"-", "", 1)
	}
	return leaf, err
}

func (h host) isBSD() bool {
	return slices.Contains([]string{"freebsd", "openbsd", "netbsd", "dragonfly"}, h.goos)
}

// tempDir is the directory of sockets below macOS' TMPDIR.
func (h host) tempDir() string { return ".rp-" + strconv.Itoa(h.uid) }

func (h host) checkLength(path string) error {
	e := PathTooLongError{Path: path, Len: len(path)}
	switch {
	case h.goos == "windows":
		e.Max, e.Label, e.Hint = 260, "Windows MAX_PATH", "choose a shorter name"
	case h.goos == "darwin":
		e.Max, e.Label, e.Hint = 103, "macOS sun_path", "set TMPDIR to a shorter directory"
	case h.isBSD():
		e.Max, e.Label, e.Hint = 103, "BSD sun_path", "set XDG_RUNTIME_DIR to a shorter directory or choose a shorter name"
	default:
		e.Max, e.Label, e.Hint = 107, "Linux sun_path", "set XDG_RUNTIME_DIR to a shorter directory or choose a shorter name"
	}
	if e.Len > e.Max {
		return &e
	}
	return nil
}

// join appends rest to base with one slash between them and leaves base as it
// is: peers written in other languages don't clean it either, and the text must
// be the same on both sides.
func join(base, rest string) string {
	if strings.HasSuffix(base, "/") {
		return base + rest
	}
	return base + "/" + rest
}
