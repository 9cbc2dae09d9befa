package broker_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/testutil"
	"github.com/seed-7265657e/usher/internal/wire"
)

const (
	notRegistered = wire.ErrorCode_ERROR_BACKEND_SPAWN_FAILED
	unknown       = wire.ErrorCode_ERROR_SERVICE_UNKNOWN
	blocked       = wire.ErrorCode_ERROR_VERSION_BLOCKED
)

// ask sends the usual Hello without a handoff and returns the reply.
func (s *site) ask() *wire.HelloReply {
	s.tb.Helper()
	c := s.dial()
	send(s.tb, c, helloFor(s.tb, noHandoff, nil))
	_, reply := readReply(s.tb, c)
	readEnd(s.tb, c)
	return reply
}

func (s *site) checkServed() {
	s.tb.Helper()
	if reply := s.ask(); reply.Negotiated == nil {
		s.tb.Errorf("got %v, want a grant", reply)
	}
}

func (s *site) checkRefused(code wire.ErrorCode, text string) {
	s.tb.Helper()
	if r := testutil.Refused(s.ask()); r.Code != code || !strings.Contains(r.Reason, text) {
		s.tb.Errorf("got %v, want %v %q", r, code, text)
	}
}

// TestDefinitionChanges: each Hello is judged by what is on disk when it comes.
func TestDefinitionChanges(t *testing.T) {
	s := newSite(t, nil)
	s.fake(demoVersion)
	s.checkServed()
	s.define(demo, `min_version = "1.4.1"`)
	s.checkRefused(blocked, "wanted_version is below min_version")
	s.define(demo, `version_allow_list = ["1.3.0"]`)
	s.checkRefused(blocked, "wanted_version is not in version_allow_list")
	s.define(demo, `isolation = "private"`)
	s.checkRefused(notRegistered, "") // of another instance
	s.define(demo, `binary_path = `)
	s.checkRefused(unknown, "service definition could not be loaded: ")
	s.write(demo+".toml", `binary_path = "relative"`)
	s.checkRefused(unknown, "service definition could not be loaded: ")
	if err := os.Remove(filepath.Join(s.defs, demo+".toml")); err != nil {
		t.Fatal(err)
	}
	s.checkRefused(unknown, "service definition was not found")
	s.define(demo, "")
	s.checkServed()
	if err := os.Chmod(s.defs, 0o755); err != nil {
		t.Fatal(err)
	}
	s.checkRefused(unknown, "service definition could not be loaded: ")
}

// TestBinaryDefinition: the form that every v1 program reads, alone and in the
// way of the other.
func TestBinaryDefinition(t *testing.T) {
	s := newSite(t, nil)
	s.fake(demoVersion)
	d := &wire.ServiceDefinition{ServiceName: demo, BinaryPath: ownBinary(t), Isolation: wire.BrokerIsolation_SHARED_BROKER}
	if err := os.Remove(filepath.Join(s.defs, demo+".toml")); err != nil {
		t.Fatal(err)
	}
	if _, err := service.Save(s.defs, d, service.Binary); err != nil {
		t.Fatal(err)
	}
	s.checkServed()
	d.MinVersion = "2.0.0"
	if _, err := service.Save(s.defs, d, service.Binary); err != nil {
		t.Fatal(err)
	}
	s.checkRefused(blocked, "wanted_version is below min_version")
	s.define(demo, "") // both: one would be ignored
	s.checkRefused(unknown, "service definition could not be loaded: ")
}

// TestExecutableReplaced: after an upgrade the backend of the old build serves
// no new client.
func TestExecutableReplaced(t *testing.T) {
	s := newSite(t, nil)
	binary := filepath.Join(s.dir, "demo")
	image, err := os.ReadFile(ownBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	install := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(binary+".new", content, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(binary+".new", binary); err != nil {
			t.Fatal(err)
		}
	}
	install(image)
	s.write(demo+".toml", fmt.Sprintf("binary_path = %q\n", binary))
	s.fake(demoVersion)
	s.checkServed()
	install([]byte("a newer build"))
	s.checkRefused(notRegistered, "backend is not registered")
	install(image)
	s.checkServed()
	if err := os.Remove(binary); err != nil {
		t.Fatal(err)
	}
	s.checkRefused(notRegistered, "backend is not registered")
}

// TestPerVersionBinaryDir: builds below that directory may serve beside the one
// at binary_path.
func TestPerVersionBinaryDir(t *testing.T) {
	s := newSite(t, nil)
	versions := func(dir string) {
		s.write(demo+".toml", fmt.Sprintf("binary_path = \"/bin/sh\"\nper_version_binary_dir = %q\n", dir))
	}
	own := filepath.Dir(ownBinary(t))
	versions(own)
	s.fake(demoVersion)
	s.checkServed()
	versions(own + "2")
	s.checkRefused(notRegistered, "backend is not registered")
	versions(filepath.Dir(own))
	s.checkServed()
}
