//go:build unix

package sock

import (
	"testing"

	"github.com/seed-7265657e/usher/internal/testutil"
)

// helpers are what this test binary does as another process; systems add theirs.
var helpers = map[string]func() error{"full table": receiveIntoFullTable}

func TestMain(m *testing.M) { testutil.Main(m, helpers) }
