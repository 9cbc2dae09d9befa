package endpoint

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/testutil"
)

type nameVectors struct {
	SIDHash []struct {
		Platform string
		Input    string `json:"input_utf8"`
		Hash     string `json:"sid_hash"`
	} `json:"sid_hash"`
	Names []struct {
		leafVector
		Leaf    string
		Linux   pathVector
		MacOS   pathVector
		Windows pathVector
	}
	Invalid []struct {
		leafVector
		Error string
	}
}

type leafVector struct {
	Kind      string
	Hash      string `json:"sid_hash"`
	Name      string
	RandomHex string `json:"random_hex"`
}

type pathVector struct {
	RuntimeDir *string `json:"XDG_RUNTIME_DIR"`
	TempDir    *string `json:"TMPDIR"`
	UID        int
	Path       string
	Error      string
	Len        int
	Max        int
	Label      string `json:"limit_label"`
}

func (v leafVector) leaf(t *testing.T) (string, error) {
	t.Helper()
	var i Instance
	var err error
	switch v.Kind {
	case "shared":
		i = Shared()
	case "private":
		i, err = Private(v.Name)
	case "explicit":
		i, err = Explicit(v.Name)
	case "backend":
		var random [16]byte
		if n, err := hex.Decode(random[:], []byte(v.RandomHex)); err != nil || n != len(random) {
			t.Fatalf("bad vector %q: %v", v.RandomHex, err)
		}
		return BackendLeaf(v.Hash, random)
	default:
		t.Fatalf("unknown kind %q", v.Kind)
	}
	if err != nil {
		return "", err
	}
	if back, err := ParseInstance(i.String()); err != nil || back != i {
		t.Errorf("ParseInstance(%q) = %v, %v", i, back, err)
	}
	return i.Leaf(v.Hash)
}

func (v pathVector) host(goos string) host {
	env := map[string]*string{"XDG_RUNTIME_DIR": v.RuntimeDir, "TMPDIR": v.TempDir}
	return host{goos: goos, uid: v.UID, lookup: func(key string) (string, bool) {
		if p := env[key]; p != nil {
			return *p, true
		}
		return "", false
	}}
}

func TestNameVectors(t *testing.T) {
	var v nameVectors
	testutil.Vectors(t, "names.json", &v)
	for _, c := range v.SIDHash {
		if got := HashInput(c.Input); got != c.Hash {
			t.Errorf("HashInput(%q) = %s, want %s", c.Input, got, c.Hash)
		}
	}
	for _, c := range v.Names {
		leaf, err := c.leaf(t)
		if err != nil || leaf != c.Leaf {
			t.Errorf("%+v: leaf %q, %v; want %q", c.leafVector, leaf, err, c.Leaf)
			continue
		}
		for goos, p := range map[string]pathVector{"linux": c.Linux, "darwin": c.MacOS, "windows": c.Windows} {
			checkPath(t, goos, leaf, p)
		}
	}
	for _, c := range v.Invalid {
		_, err := c.leaf(t)
		if invalid := (*names.InvalidError)(nil); !errors.As(err, &invalid) {
			t.Errorf("%+v: error %v, want *names.InvalidError", c.leafVector, err)
		}
	}
}

func checkPath(t *testing.T, goos, leaf string, want pathVector) {
	t.Helper()
	got, err := want.host(goos).socketPath(leaf)
	if want.Error == "" {
		if err != nil || got != want.Path || len(got) != want.Len {
			t.Errorf("%s %s: path %q (%d bytes), %v; want %q (%d bytes)", goos, leaf, got, len(got), err, want.Path, want.Len)
		}
		return
	}
	var long *PathTooLongError
	if !errors.As(err, &long) || long.Len != want.Len || long.Max != want.Max || long.Label != want.Label {
		t.Errorf("%s %s: error %+v, want %s of %d bytes, at most %d (%s)", goos, leaf, err, want.Error, want.Len, want.Max, want.Label)
	}
}

// TestEmptyVariableCountsAsUnset: the reference takes an empty one for set, and
// gets a path relative to whatever directory each process is in; so client,
// broker and backend miss one another. usher follows the XDG specification.
func TestEmptyVariableCountsAsUnset(t *testing.T) {
	empty := ""
	for goos, want := range map[string]string{
		"linux":  "/tmp/running-process-7/broker/x.sock",
		"darwin": "/tmp/.rp-7/" + HashInput("x") + ".sock",
	} {
		got, err := pathVector{RuntimeDir: &empty, TempDir: &empty, UID: 7}.host(goos).socketPath("x")
		if err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", goos, got, err, want)
		}
	}
}

func TestPathTooLongSaysWhatToDo(t *testing.T) {
	err := host{goos: "linux"}.checkLength(strings.Repeat("a", 108))
	for _, part := range []string{"is 108 bytes", "at most 107 fit", "set XDG_RUNTIME_DIR to a shorter directory"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q lacks %q", err, part)
		}
	}
}

// TestNamesOfTheBSDs: their paths have 103 bytes, and a backend's pipe fits a directory for
// which the name that Linux gives it would be too long.
func TestNamesOfTheBSDs(t *testing.T) {
	const hash, fits = "0123456789abcdef", "/var/run/user/1234567890"
	for goos, most := range map[string]int{"linux": 107, "darwin": 103, "freebsd": 103, "openbsd": 103, "netbsd": 103, "dragonfly": 103} {
		h := withEnv(goos, map[string]string{"XDG_RUNTIME_DIR": fits})
		if err := h.checkLength(strings.Repeat("a", most)); err != nil {
			t.Errorf("%s: %v", goos, err)
		}
		var long *PathTooLongError
		if err := h.checkLength(strings.Repeat("a", most+1)); !errors.As(err, &long) || long.Max != most {
			t.Errorf("%s: %v, want at most %d", goos, err, most)
		}
		leaf, err := h.backendLeaf(hash, [randomLen]byte{0xab})
		if err != nil {
			t.Fatal(err)
		}
		bsd := most == 103 && goos != "darwin"
		if strings.Contains(leaf, hash) == bsd || !strings.HasPrefix(leaf, leafPrefix) || !strings.HasSuffix(leaf, "be-ab"+strings.Repeat("0", 30)) {
			t.Errorf("%s: %s", goos, leaf)
		}
		if _, err := h.socketPath(leaf); bsd && err != nil {
			t.Errorf("%s: %v", goos, err)
		}
		if _, err := h.backendLeaf("no hash", [randomLen]byte{}); err == nil {
			t.Errorf("%s: a name for no user", goos)
		}
	}
}

func TestParseInstanceRefuses(t *testing.T) {
	for _, id := range []string{"", "Shared", "shared:", "shared:x", "private", "private:", "explicit:UP", "local", "private:a/b"} {
		if i, err := ParseInstance(id); err == nil {
			t.Errorf("ParseInstance(%q) = %v", id, i)
		}
	}
}

func TestLinuxMachineID(t *testing.T) {
	const dbus, boot = "/var/lib/dbus/machine-id", "/proc/sys/kernel/random/boot_id"
	denied := errors.New("permission denied")
	for _, c := range []struct {
		name  string
		files map[string]string
		fail  string
		want  string
		err   error
	}{
		{name: "first file", files: map[string]string{"/etc/machine-id": " abc\n", dbus: "def"}, want: "abc"},
		{name: "missing falls through", files: map[string]string{dbus: "def\n"}, want: "def"},
		{name: "empty falls through", files: map[string]string{"/etc/machine-id": "\n", dbus: "def"}, want: "def"},
		{name: "boot id last", files: map[string]string{"/etc/machine-id": "", boot: "b-1\n"}, want: "boot:b-1"},
		{name: "unreadable is hard", files: map[string]string{dbus: "def"}, fail: "/etc/machine-id", err: denied},
		{name: "nothing", err: fs.ErrNotExist},
	} {
		got, err := linuxMachineID(func(path string) ([]byte, error) {
			if path == c.fail {
				return nil, denied
			}
			if text, ok := c.files[path]; ok {
				return []byte(text), nil
			}
			return nil, fs.ErrNotExist
		})
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v; want %q, %v", c.name, got, err, c.want, c.err)
		}
	}
}

func TestOtherHashInputs(t *testing.T) {
	uuid, err := macPlatformUUID("+-o J1 <class>\n  {\n    \"IOPlatformUUID\" = \"1111-22\"\n    \"x\" = 1\n  }\n")
	if err != nil || uuid != "1111-22" {
		t.Errorf("macPlatformUUID = %q, %v", uuid, err)
	}
	if _, err := macPlatformUUID("nothing"); err == nil {
		t.Error("macPlatformUUID found one in nothing")
	}
	if got := windowsHashInput([]byte{1, 0xab}); got != "windows-sid:01ab" {
		t.Errorf("windowsHashInput = %q", got)
	}
}

func TestUserHash(t *testing.T) {
	a, err := UserHash()
	if err != nil {
		t.Skipf("this machine has no identity: %v", err)
	}
	b, err := UserHash()
	if err != nil || a != b || names.UserHash(a) != nil {
		t.Errorf("UserHash = %q then %q, %v", a, b, err)
	}
}

func TestServiceDefinitionDir(t *testing.T) {
	home := func() (string, error) { return "/home/u", nil }
	for _, c := range []struct {
		goos   string
		env    map[string]string
		dir    string
		source string
		fails  bool
	}{
		{goos: "linux", dir: "/home/u/.config/running-process/services", source: "platform-default"},
		{goos: "linux", env: map[string]string{"XDG_CONFIG_HOME": "/cfg"}, dir: "/cfg/running-process/services", source: "platform-default"},
		{goos: "linux", env: map[string]string{"XDG_CONFIG_HOME": ""}, dir: "/home/u/.config/running-process/services", source: "platform-default"},
		{goos: "linux", env: map[string]string{ServiceDefVariable: "/defs"}, dir: "/defs", source: "env:RUNNING_PROCESS_SERVICE_DEF_DIR"},
		{goos: "linux", env: map[string]string{ServiceDefVariable: ""}, dir: "/home/u/.config/running-process/services", source: "platform-default"},
		{goos: "darwin", dir: "/home/u/Library/Application Support/running-process/services", source: "platform-default"},
		{goos: "windows", fails: true},
	} {
		h := host{goos: c.goos, home: home, lookup: func(k string) (string, bool) { v, ok := c.env[k]; return v, ok }}
		dir, source, err := h.serviceDefinitionDir()
		if filepath.ToSlash(dir) != c.dir || source != c.source || (err != nil) != c.fails {
			t.Errorf("%s %v: %q, %q, %v", c.goos, c.env, dir, source, err)
		}
	}
}

func TestBrokerSocket(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/run/u")
	t.Setenv("TMPDIR", "/run/u")
	set, err := filepath.Abs("/from/env.sock")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(SocketVariable, set)
	if got, err := BrokerSocket("/given.sock"); got != "/given.sock" || err != nil {
		t.Errorf("given: %q, %v", got, err)
	}
	if got, err := BrokerSocket(""); got != set || err != nil {
		t.Errorf("from the environment: %q, %v", got, err)
	}
	t.Setenv(SocketVariable, "")
	shared, sharedErr := Shared().SocketPath()
	if got, err := BrokerSocket(""); got != shared || (err == nil) != (sharedErr == nil) {
		t.Errorf("default: %q, %v; want %q", got, err, shared)
	}
}

func TestStateDir(t *testing.T) {
	home := func() (string, error) { return "/home/u", nil }
	for _, c := range []struct{ goos, variable, value, want string }{
		{"linux", "XDG_STATE_HOME", "/state", "/state/running-process"},
		{"linux", "XDG_STATE_HOME", "", "/home/u/.local/state/running-process"},
		{"darwin", "", "", "/home/u/.local/state/running-process"},
		{"windows", "LOCALAPPDATA", "C:/local", "C:/local/running-process"},
		{"windows", "", "", ""},
	} {
		h := host{goos: c.goos, home: home, lookup: func(k string) (string, bool) { return c.value, k == c.variable }}
		if got, err := h.stateDir(); filepath.ToSlash(got) != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}
