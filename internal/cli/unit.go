package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/winservice"
)

// units is what the `usher unit` verbs share.
type units struct {
	*app
	user          bool
	instance      string
	idleExit      durationValue
	definitionDir string
}

func unitCommand(a *app) *cobra.Command {
	u := &units{app: a}
	cmd := &cobra.Command{
		Use:   "unit",
		Short: "Write the units with which systemd runs the broker",
		Long: "Write the units with which the user's systemd runs the broker: a socket, at whose first client the\n" +
			"broker is started, and the service, which is watched, and restarted after a crash with no connection refused.\n" +
			"Windows has neither: there this says by which command its service manager gets the broker.",
	}
	f := cmd.PersistentFlags()
	f.BoolVar(&u.user, "user", true, "for the user's own service manager; there is no other kind: a broker serves one user")
	f.StringVar(&u.instance, "instance", endpoint.Shared().String(), "which broker: shared, private:SERVICE or explicit:NAME; names the units, too")
	f.Var(&u.idleExit, "idle-exit", "have the broker end after so long without a backend and a client; the socket starts it again (default: never)")
	addDefinitionDir(f, &u.definitionDir)
	cmd.AddCommand(u.printCommand(), u.installCommand())
	return cmd
}

// broker judges the flags, and says which broker the units are for.
func (u *units) broker(cmd *cobra.Command) (unitBroker, error) {
	if !u.user {
		return unitBroker{}, usageError(cmd, fmt.Errorf("--user=false: a broker serves one user, and runs under the service manager of that user"))
	}
	instance, err := endpoint.ParseInstance(u.instance)
	if err != nil {
		return unitBroker{}, usageError(cmd, err)
	}
	b := unitBroker{Instance: instance.String(), IdleExit: time.Duration(u.idleExit)}
	if b.Program, err = os.Executable(); err != nil {
		return b, err
	}
	socket, err := u.bindPath(instance, cmd.Flags().Changed("instance"))
	if err != nil {
		return b, err
	}
	if b.Socket, err = filepath.Abs(socket); err != nil {
		return b, err
	}
	if err := endpoint.CheckLength(b.Socket); err != nil {
		return b, err
	}
	b.RuntimeDir = os.Getenv("XDG_RUNTIME_DIR")
	if b.Definitions, err = u.definitions(); err != nil {
		return b, err
	}
	for _, path := range []string{b.Program, b.Socket, b.Definitions} {
		if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return b, fmt.Errorf("%q has a control character, which no unit can hold", path)
		}
	}
	plain := func(s string) string { return s }
	if command := winservice.Creation(b.name(), append([]string{b.Program}, b.arguments(plain, plain)...)); command != "" {
		return b, fmt.Errorf("there is no systemd on this system: its service manager runs the broker, once it was told in an administrator's console:\n%s", command)
	}
	if strings.ContainsAny(b.Program, `"'\`) {
		return b, fmt.Errorf("systemd runs no program whose path has quotes or backslashes: move %s", b.Program)
	}
	return b, nil
}

// definitions is --service-def-dir, else what the environment names: the service manager
// has another one. Empty: where every broker looks.
func (u *units) definitions() (string, error) {
	if u.definitionDir != "" {
		return filepath.Abs(u.definitionDir)
	}
	dir, source, err := endpoint.ServiceDefinitionDir()
	if err != nil || source != endpoint.SourceEnv {
		return "", err
	}
	return dir, nil
}
