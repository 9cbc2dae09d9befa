package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/service"
)

func (s *services) removeCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "remove NAME",
		Short:             "Remove a service definition",
		Long:              "Remove a service definition. Its backends and their connections live on; new clients are refused.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: s.completeDefined(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := s.dir()
			if err != nil {
				return err
			}
			if err := service.Remove(dir, args[0]); err != nil {
				return fmt.Errorf("service %q in %s: %w", args[0], dir, err)
			}
			return nil
		},
	}
}
