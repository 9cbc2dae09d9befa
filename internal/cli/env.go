package cli

import (
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// Environment variables in milliseconds (spec 01 §13).
const (
	helloTimeoutVariable  = "RUNNING_PROCESS_BROKER_HELLO_TIMEOUT_MS"
	clientTimeoutVariable = "RUNNING_PROCESS_BROKER_CLIENT_TIMEOUT_MS"
)

// millisecondsFrom reads a variable as spec 01 §13 says: trimmed, decimal, above
// zero; anything else means the default.
func millisecondsFrom(variable string, otherwise time.Duration) time.Duration {
	ms, err := strconv.ParseUint(strings.TrimSpace(os.Getenv(variable)), 10, 64)
	if err != nil || ms == 0 || ms > uint64(math.MaxInt64/time.Millisecond) {
		return otherwise
	}
	return time.Duration(ms) * time.Millisecond
}
