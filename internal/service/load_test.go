package service

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

// put writes a file into a fresh private directory and returns the directory.
func put(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func saved(t *testing.T, d *wire.ServiceDefinition) string {
	t.Helper()
	b, err := wire.Append(nil, d)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func demo() *wire.ServiceDefinition {
	return &wire.ServiceDefinition{ServiceName: "demo-svc", BinaryPath: "/opt/demo/bin/demo", Isolation: wire.BrokerIsolation_SHARED_BROKER}
}

func TestInvalidDefinitionVectors(t *testing.T) {
	var v struct {
		Definitions []struct {
			Name, File, Expect, Hex string
		} `json:"service_definition"`
	}
	testutil.Vectors(t, "invalid.json", &v)
	for _, c := range v.Definitions {
		name := "demo-svc"
		if c.File != "" {
			name = strings.TrimSuffix(c.File, suffixV1)
		}
		dir := put(t, map[string]string{name + suffixV1: string(testutil.Hex(t, c.Hex))})
		d, err := Load(dir, name)
		var path *PathError
		var invalid *names.InvalidError
		var mismatch *NameMismatchError
		ok := err != nil
		switch c.Expect {
		case "invalid path":
			ok = errors.As(err, &path)
		case "InvalidName":
			ok = errors.As(err, &invalid)
		case "ServiceNameMismatch":
			ok = errors.As(err, &mismatch) && mismatch.Requested == "other" && mismatch.Declared == "demo-svc"
		}
		if !ok {
			t.Errorf("%s: %v, %v; want %s", c.Name, d, err, c.Expect)
		}
	}
}

func TestValidDefinitionVectors(t *testing.T) {
	var v struct {
		Vectors []struct {
			Name, Message, Hex string
			Fields             map[string]any
		}
	}
	testutil.Vectors(t, "messages.json", &v)
	seen := 0
	for _, c := range v.Vectors {
		if c.Message != "ServiceDefinition" {
			continue
		}
		seen++
		want := testutil.Message(t, c.Message, c.Fields).(*wire.ServiceDefinition)
		dir := put(t, map[string]string{want.ServiceName + suffixV1: string(testutil.Hex(t, c.Hex))})
		d, err := Load(dir, want.ServiceName)
		if err != nil || !testutil.Equal(d.ServiceDefinition, want) {
			t.Errorf("%s: %v, %v", c.Name, d, err)
		}
		for _, format := range []Format{Binary, TOML} {
			dir := filepath.Join(t.TempDir(), "services")
			path, err := Save(dir, want, format)
			if err != nil {
				t.Fatalf("%s: Save: %v", c.Name, err)
			}
			d, err := Load(dir, want.ServiceName)
			if err != nil || !testutil.Equal(d.ServiceDefinition, want) || d.Path != path {
				t.Errorf("%s, format %d: %v, %v", c.Name, format, d, err)
			}
		}
	}
	if seen == 0 {
		t.Error("no vectors")
	}
}

func TestErrorTexts(t *testing.T) {
	cause := errors.New("cause")
	for _, c := range []struct {
		err  error
		want string
	}{
		{&IOError{Err: cause}, "service-definition I/O failed: cause"},
		{&DecodeError{Format: "protobuf", Err: cause}, "service-definition protobuf decode failed: cause"},
		{&InsecureDirectoryError{Path: "/d"}, "service-definition directory has insecure permissions: /d"},
		{&NameMismatchError{Requested: "a", Declared: "b"}, `service-definition requested "a" but file declares "b"`},
		{&PathError{Field: "binary_path", Reason: "must not be empty"}, "service-definition binary_path is invalid:  (must not be empty)"},
		{&IsolationError{Reason: "r"}, "service-definition isolation is invalid: r"},
	} {
		if c.err.Error() != c.want {
			t.Errorf("%q, want %q", c.err, c.want)
		}
	}
}

func TestLoadOrder(t *testing.T) {
	bin := func(path string) string {
		d := demo()
		d.BinaryPath = path
		return saved(t, d)
	}
	toml := "binary_path = \"/toml\"\n"
	for _, c := range []struct {
		files    map[string]string
		binary   string
		conflict bool
	}{
		{files: map[string]string{"demo-svc.servicedef.v2": bin("/v2"), "demo-svc.servicedef": bin("/v1")}, binary: "/v2"},
		{files: map[string]string{"demo-svc.servicedef": bin("/v1")}, binary: "/v1"},
		{files: map[string]string{"demo-svc.toml": toml}, binary: "/toml"},
		{files: map[string]string{"demo-svc.toml": toml, "demo-svc.servicedef": bin("/v1")}, conflict: true},
		{files: map[string]string{"demo-svc.toml": toml, "demo-svc.servicedef.v2": bin("/v2")}, conflict: true},
	} {
		d, err := Load(put(t, c.files), "demo-svc")
		var conflict *ConflictError
		if c.conflict {
			if !errors.As(err, &conflict) || !strings.HasSuffix(conflict.Other, ".toml") || !strings.Contains(err.Error(), "remove") {
				t.Errorf("%v: %v, %v; want *ConflictError", c.files, d, err)
			}
		} else if err != nil || d.BinaryPath != c.binary {
			t.Errorf("%v: %v, %v; want %s", c.files, d, err, c.binary)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	var invalid *names.InvalidError
	for _, name := range []string{"", "../x", "UP", "a\x00b", strings.Repeat("a", 65)} {
		if _, err := Load("/nonexistent", name); !errors.As(err, &invalid) {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none"), "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no directory: %v", err)
	}
	if _, err := Load(put(t, nil), "x"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no file: %v", err)
	}

	var io *IOError
	dir := put(t, map[string]string{"big.servicedef": strings.Repeat("x", maxFile+1)})
	if _, err := Load(dir, "big"); !errors.As(err, &io) || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("too large: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir.toml"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, "dir"); !errors.As(err, &io) {
		t.Errorf("directory instead of a file: %v", err)
	}
	var decode *DecodeError
	if _, err := Load(put(t, map[string]string{"bad.servicedef": "\x0a"}), "bad"); !errors.As(err, &decode) || decode.Format != "protobuf" {
		t.Errorf("garbage: %v", err)
	}
}

func TestDirectoryMustBePrivate(t *testing.T) {
	for _, file := range []string{"demo-svc.servicedef", "demo-svc.servicedef.v2", "demo-svc.toml"} {
		dir := put(t, map[string]string{file: saved(t, demo())})
		if err := os.Chmod(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		var insecure *InsecureDirectoryError
		if _, err := Load(dir, "demo-svc"); !errors.As(err, &insecure) || insecure.Path != dir {
			t.Errorf("%s: %v", file, err)
		}
		if _, err := List(dir); !errors.As(err, &insecure) {
			t.Errorf("List: %v", err)
		}
	}
}

// TestV2FilesAreJudgedWhenUsed: v1 checks the name of a .servicedef.v2 file and
// nothing else on load.
func TestV2FilesAreJudgedWhenUsed(t *testing.T) {
	bad := demo()
	bad.BinaryPath, bad.Isolation, bad.MinVersion = "rel", 9, "1.0"
	d, err := Load(put(t, map[string]string{"demo-svc.servicedef.v2": saved(t, bad)}), "demo-svc")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.CheckVersion("1.0.0"); err != nil {
		t.Errorf("a bad floor is no floor: %v", err)
	}
	if _, err := d.Instance(); err == nil {
		t.Error("isolation 9 has an instance")
	}
	var invalid *names.InvalidError
	if err := d.CheckUsable(); !errors.As(err, &invalid) {
		t.Errorf("CheckUsable: %v", err)
	}
	var mismatch *NameMismatchError
	if _, err := Load(put(t, map[string]string{"other.servicedef.v2": saved(t, bad)}), "other"); !errors.As(err, &mismatch) {
		t.Errorf("name: %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	binary, err := wire.Append(nil, demo())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(binary, false)
	f.Add([]byte("binary_path = \"/x\"\n[labels]\na = \"b\"\n"), true)
	f.Add([]byte("isolation = \"explicit\"\nexplicit_instance = \"ci\"\nversion_allow_list = [\"1.0.0\"]"), true)
	f.Fuzz(func(t *testing.T, content []byte, isTOML bool) {
		format, suffix := Binary, suffixV1
		if isTOML {
			format, suffix = TOML, suffixTOML
		}
		d, err := decode("demo-svc", suffix, content)
		if err != nil {
			return
		}
		again, err := encode(d, format)
		if err != nil {
			t.Fatalf("encode %v: %v", d, err)
		}
		back, err := decode("demo-svc", suffix, again)
		if err != nil || !testutil.Equal(d, back) {
			t.Errorf("%v became %v, %v in\n%s", d, back, err, bytes.TrimSpace(again))
		}
	})
}
