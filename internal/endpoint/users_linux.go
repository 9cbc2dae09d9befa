package endpoint

import (
	"os"
	"strings"
)

// usersAreMapped reports whether this process lives in a user namespace, where its
// user ids are others than outside. It is false where that can't be told.
func usersAreMapped() bool {
	users, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	first := strings.Fields(string(users))
	return len(first) >= 2 && (len(first) > 3 || first[0] != first[1])
}
