//go:build !windows

package launch

import (
	"os"
	"os/user"
)

// login is what the environment of a login has of the user.
func login() (env []string) {
	set := func(name, value string) {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	name, home := os.Getenv("USER"), os.Getenv("HOME")
	if u, err := user.Current(); err == nil {
		name = u.Username
		if home == "" { // a test or a container sets it on purpose
			home = u.HomeDir
		}
	}
	set("USER", name)
	set("LOGNAME", name)
	set("HOME", home)
	set("SHELL", os.Getenv("SHELL"))
	set("PATH", standardPath)
	return env
}
