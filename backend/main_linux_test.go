package backend_test

import (
	"testing"

	"github.com/seed-7265657e/usher/internal/testutil"
)

func TestMain(m *testing.M) {
	testutil.Main(m, map[string]func() error{
		"full table":  serveWithFullTable,
		"dial and go": dialAndGo,
		"nobody":      serveAsNobody,
		"stranger":    connectAsStranger,
		"launched":    serveLaunched,
	})
}
