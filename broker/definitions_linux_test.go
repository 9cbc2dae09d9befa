package broker_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/seed-7265657e/usher/internal/stamp"
	"github.com/seed-7265657e/usher/internal/testutil"
)

// recheck is how long a look at the files may hold where they are watched.
const recheck = 100 * time.Millisecond

// changes are what may be done to a definition that is in the cache, and
// how the next Hello is answered.
var changes = []struct {
	name   string
	change func(s *site) error
	check  func(s *site)
}{
	{"rewritten in place", func(s *site) error {
		s.write(demo+".toml", viaLink(s, `min_version = "9.0.0"`))
		return nil
	}, func(s *site) { s.checkRefused(blocked, "below min_version") }},
	{"replaced", func(s *site) error {
		s.write("new", viaLink(s, `min_version = "9.0.0"`))
		return os.Rename(filepath.Join(s.defs, "new"), filepath.Join(s.defs, demo+".toml"))
	}, func(s *site) { s.checkRefused(blocked, "below min_version") }},
	{"removed", func(s *site) error {
		return os.Remove(filepath.Join(s.defs, demo+".toml"))
	}, func(s *site) { s.checkRefused(unknown, "not found") }},
	{"another form beside it", func(s *site) error {
		s.write(demo+".servicedef", "")
		return nil
	}, func(s *site) { s.checkRefused(unknown, "could not be loaded") }},
	{"directory open to others", func(s *site) error {
		return os.Chmod(s.defs, 0o755)
	}, func(s *site) { s.checkRefused(unknown, "could not be loaded") }},
	{"directory replaced", func(s *site) error {
		return errors.Join(os.Rename(s.defs, s.defs+".old"), os.Mkdir(s.defs, 0o700))
	}, func(s *site) { s.checkRefused(unknown, "not found") }},
	{"upgrade by a link", func(s *site) error {
		link := filepath.Join(s.dir, "current")
		return errors.Join(os.Symlink("v2", link+".new"), os.Rename(link+".new", link))
	}, func(s *site) { s.checkRefused(notRegistered, "backend is not registered") }},
	{"executable overwritten", func(s *site) error {
		return os.WriteFile(filepath.Join(s.dir, "v1", "demo"), []byte("another build"), 0o700)
	}, func(s *site) { s.checkRefused(notRegistered, "backend is not registered") }},
	{"something else in that directory", func(s *site) error {
		s.write("other.toml", "binary_path = \"/bin/sh\"\n")
		return nil
	}, (*site).checkServed},
}

// viaLink is a definition whose executable is reached by the link "current".
func viaLink(s *site, extra string) string {
	return fmt.Sprintf("binary_path = %q\n%s\n", filepath.Join(s.dir, "current", "demo"), extra)
}

// TestChangeOfACachedDefinition: a cached definition is judged by what is on disk
// when the Hello comes, with a watch and without.
func TestChangeOfACachedDefinition(t *testing.T) {
	for _, watched := range []bool{true, false} {
		for _, c := range changes {
			t.Run(fmt.Sprintf("%s/watched %t", c.name, watched), func(t *testing.T) {
				if watched {
					testutil.Needs(t, "watches")
				}
				s := unserved(t, func(o *options) { o.HelloRate = 1 << 20 })
				if !watched {
					s.EndWatch()
				}
				s.serve()
				image, err := os.ReadFile(ownBinary(t))
				if err != nil {
					t.Fatal(err)
				}
				for version, content := range map[string][]byte{"v1": image, "v2": []byte("a newer build")} {
					dir := filepath.Join(s.dir, version)
					if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(filepath.Join(dir, "demo"), content, 0o700)); err != nil {
						t.Fatal(err)
					}
				}
				if err := os.Symlink("v1", filepath.Join(s.dir, "current")); err != nil {
					t.Fatal(err)
				}
				s.write(demo+".toml", viaLink(s, ""))
				s.fake(demoVersion)
				for _, path := range []string{s.defs, filepath.Join(s.defs, demo+".toml"), filepath.Join(s.dir, "v1", "demo")} {
					for !stamp.Of(path).Settled(time.Now()) { // ends when the file has aged
						if t.Context().Err() != nil {
							t.Fatal("the file does not age")
						}
					}
				}
				s.checkServed() // stores it
				s.checkServed() // watches
				if s.Cached(demo) != watched {
					t.Fatalf("watched: %t", !watched)
				}
				if err := c.change(s); err != nil {
					t.Fatal(err)
				}
				// What is out of date stays out of use, also while stat need not be asked.
				for began := time.Now(); time.Since(began) < 3*recheck/2; {
					if c.check(s); t.Failed() {
						return
					}
				}
			})
		}
	}
}
