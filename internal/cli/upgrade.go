package cli

import (
	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/wire"
)

func upgradeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "upgrade",
		Short: "Have the broker replaced by the program that is at its path now",
		Long: "Have the broker replaced by the program that is at its path now. No client is refused meanwhile, and no\n" +
			"connection lost: the new broker takes the socket over, those who wait with it, and the backends register with it.\n" +
			"If the new one does not serve, the old one goes on, and this command says why. SIGUSR2 does the same, where\n" +
			"there are signals. On Windows a broker that the service manager runs is stopped and started instead.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.relay(cmd, &wire.AdminRequest{Verb: wire.AdminVerb_ADMIN_VERB_UPGRADE})
		},
	}
}
