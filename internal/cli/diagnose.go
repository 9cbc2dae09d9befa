package cli

import (
	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/wire"
)

func diagnoseCommand(a *app) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "diagnose",
		Short: "Show what a diagnostic bundle would hold, as JSON; none is written",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.relay(cmd, &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_DIAGNOSE, OutputPath: output})
		},
	}
	addJSON(cmd, new(bool)) // as everywhere; there is nothing else
	cmd.Flags().StringVar(&output, "output", "", "name of the bundle in the answer (default bundle.tar.gz)")
	return cmd
}
