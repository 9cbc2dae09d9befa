package cli

import (
	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/wire"
)

func readyzCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "readyz",
		Short: "Ask whether the broker takes clients; exit 1 when it does not",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.relay(cmd, &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_READYZ})
		},
	}
}
