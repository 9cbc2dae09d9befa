package cli

import (
	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/wire"
)

func dumpCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Show the broker's configuration and backends, as JSON",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.relay(cmd, &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_DUMP})
		},
	}
	addJSON(cmd, new(bool)) // as everywhere; there is nothing else
	return cmd
}
