package cli

import (
	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/wire"
)

func metricsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "metrics",
		Short: "Show the broker's metrics, as OpenMetrics text",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.relay(cmd, &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_METRICS})
		},
	}
}
