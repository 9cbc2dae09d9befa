package endpoint

import (
	"math"
	"os"
	"strconv"
	"strings"
	"time"
)

// ServiceDefVariable and the two timeouts are the environment variables of spec
// 03 §2 and 01 §13 that more than one program reads.
const (
	ServiceDefVariable    = "RUNNING_PROCESS_SERVICE_DEF_DIR"
	HelloTimeoutVariable  = "RUNNING_PROCESS_BROKER_HELLO_TIMEOUT_MS"
	ClientTimeoutVariable = "RUNNING_PROCESS_BROKER_CLIENT_TIMEOUT_MS"
)

// Milliseconds reads a timeout from a variable as spec 01 §13 says: trimmed,
// decimal, above zero; anything else means otherwise.
func Milliseconds(variable string, otherwise time.Duration) time.Duration {
	ms, err := strconv.ParseUint(strings.TrimSpace(os.Getenv(variable)), 10, 64)
	if err != nil || ms == 0 || ms > uint64(math.MaxInt64/time.Millisecond) {
		return otherwise
	}
	return time.Duration(ms) * time.Millisecond
}
