package cli

import (
	"errors"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/service"
)

// services is what the `usher service` verbs share.
type services struct {
	definitionDir string
}

func serviceCommand(a *app) *cobra.Command {
	s := new(services)
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Define services, and restart, stop and pause their instances",
		Long: "A service definition says which program serves a service and which versions may be asked for.\n" +
			"The broker reads it anew for every client, so a change needs no restart.",
	}
	addDefinitionDir(cmd.PersistentFlags(), &s.definitionDir)
	cmd.AddCommand(s.addCommand(), s.listCommand(), s.showCommand(), s.checkCommand(), s.removeCommand())
	cmd.AddCommand(controlCommands(a)...)
	return cmd
}

// dir is --service-def-dir, else where the broker looks by default.
func (s *services) dir() (string, error) {
	if s.definitionDir != "" {
		return s.definitionDir, nil
	}
	dir, _, err := endpoint.ServiceDefinitionDir()
	return dir, err
}

// advised is err with a text that says what to do where the one of the wire has no
// room for it.
func advised(err error) error {
	var insecure *service.InsecureDirectoryError
	if errors.As(err, &insecure) {
		return insecure.Err
	}
	return err
}

// addDefinitionDir declares --service-def-dir in flags.
func addDefinitionDir(flags *pflag.FlagSet, dir *string) {
	flags.StringVar(dir, "service-def-dir", "",
		"directory of service definitions (default $"+endpoint.ServiceDefVariable+", else the user's)")
}
