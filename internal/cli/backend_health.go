package cli

import (
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/wire"
)

func backendHealthCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "backend-health [SERVICE]",
		Short:             "Show the backends of one service, as JSON",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeLiveServices(a),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.relay(cmd, &wire.AdminRequest{
				Verb:        wire.AdminVerb_ADMIN_VERB_BACKEND_HEALTH,
				ServiceName: strings.Join(args, ""),
			})
		},
	}
	addJSON(cmd, new(bool)) // as everywhere; there is nothing else
	return cmd
}
