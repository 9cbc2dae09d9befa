package launch

import (
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/windows"
)

// directories are where a user's files are, by variables that a test or a service sets on
// purpose: usher looks for its own there.
var directories = []string{"APPDATA", "LOCALAPPDATA", "TEMP", "TMP"}

// login is the environment of a login, as the system makes it for this user; where it can't,
// that of this process.
func login() []string {
	env, err := windows.GetCurrentProcessToken().Environ(false)
	if err != nil {
		return os.Environ()
	}
	for _, name := range directories {
		if value := os.Getenv(name); value != "" {
			env = slices.DeleteFunc(env, func(entry string) bool { return strings.HasPrefix(strings.ToUpper(entry), name+"=") })
			env = append(env, name+"="+value)
		}
	}
	return env
}
