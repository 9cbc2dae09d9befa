package cli

import (
	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/wire"
)

func healthzCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "healthz",
		Short: "Ask whether the broker is alive",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.relay(cmd, &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_HEALTHZ})
		},
	}
}
