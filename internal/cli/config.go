package cli

import (
	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/wire"
)

func configCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Show the broker's settings and where they come from, as JSON",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.relay(cmd, &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_CONFIG})
		},
	}
}
