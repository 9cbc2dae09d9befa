package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/wire"
)

func shutdownCommand(a *app) *cobra.Command {
	var deadline durationValue
	cmd := &cobra.Command{
		Use:   "shutdown",
		Short: "End the broker once connections under way have their verdict",
		Long: "End the broker once connections under way have their verdict.\n" +
			"Backends live on, and so do connections that were handed over to them.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.relay(cmd, &wire.AdminRequest{
				Verb:            wire.AdminVerb_ADMIN_VERB_SHUTDOWN,
				DrainDeadlineMs: wholeMilliseconds(deadline),
			})
		},
	}
	cmd.Flags().Var(&deadline, "deadline", "how long that may take at most (default: the broker's --drain-timeout, which is the upper limit)")
	return cmd
}

// wholeMilliseconds rounds up: 0 would mean that there is no deadline.
func wholeMilliseconds(d durationValue) uint64 {
	return uint64((time.Duration(d) + time.Millisecond - 1) / time.Millisecond)
}
