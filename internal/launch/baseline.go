package launch

import (
	"os"
	"strings"
)

// fromHere are the variables of a baseline that come from this process (spec 03 §11, step
// 6), and where the directories are that usher itself looks for.
var fromHere = []string{"LANG", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"}

// Baseline is the environment that a process starts with whoever asked for it: the user's
// login, the standard PATH, language, time zone and directories. What a terminal or a
// script had set by accident is not in it. It ends with extra, NAME=value each.
func Baseline(extra ...string) (env []string) {
	env = login()
	set := func(name, value string) {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	for _, name := range fromHere {
		set(name, os.Getenv(name))
	}
	for _, entry := range os.Environ() {
		if strings.HasPrefix(entry, "LC_") {
			env = append(env, entry)
		}
	}
	return append(env, extra...)
}
