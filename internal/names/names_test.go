package names_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/testutil"
)

type shapes struct{ Valid, Invalid []string }

func TestVectors(t *testing.T) {
	var v struct {
		ServiceName shapes `json:"service_name"`
		Version     shapes
	}
	testutil.Vectors(t, "invalid.json", &v)
	check(t, names.ServiceName, v.ServiceName)
	check(t, names.Version, v.Version)
}

func TestUserHash(t *testing.T) {
	check(t, names.UserHash, shapes{
		Valid:   []string{"0123456789abcdef"},
		Invalid: []string{"", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "0123456789abcdeg"},
	})
}

func check(t *testing.T, rule func(string) error, s shapes) {
	t.Helper()
	if len(s.Valid) == 0 || len(s.Invalid) == 0 {
		t.Fatal("the vectors are empty")
	}
	for _, value := range s.Valid {
		if err := rule(value); err != nil {
			t.Errorf("%q: %v", value, err)
		}
	}
	for _, value := range s.Invalid {
		var invalid *names.InvalidError
		if err := rule(value); !errors.As(err, &invalid) || invalid.Value != value {
			t.Errorf("%q: got %v, want an InvalidError for it", value, err)
		}
	}
}

func TestInvalidErrorStaysShort(t *testing.T) {
	err := names.Version(strings.Repeat("x", 1<<20))
	if n := len(err.Error()); n > 200 {
		t.Errorf("the text is %d bytes long", n)
	}
}

var (
	serviceName = regexp.MustCompile(`\A[a-z0-9-]{1,64}\z`)
	version     = regexp.MustCompile(`\A[0-9]+\.[0-9]+\.[0-9]+(-[a-z0-9.]+)?\z`)
)

// FuzzNames holds the scanners against the patterns of spec 01 §6.
func FuzzNames(f *testing.F) {
	for _, seed := range []string{"", "a", "1.2.3", "1.2.3-rc.1", "1.2.3-a-b", "..", "1..0", "é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := names.ServiceName(s) == nil, serviceName.MatchString(s); got != want {
			t.Errorf("ServiceName(%q) valid = %v, want %v", s, got, want)
		}
		if got, want := names.Version(s) == nil, version.MatchString(s); got != want {
			t.Errorf("Version(%q) valid = %v, want %v", s, got, want)
		}
	})
}
