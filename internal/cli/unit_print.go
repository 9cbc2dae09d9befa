package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (u *units) printCommand() *cobra.Command {
	var launchd, asJSON bool
	cmd := &cobra.Command{
		Use:               "print",
		Short:             "Print the units",
		Example:           "  usher unit print\n  usher unit print --instance private:notes --idle-exit 10m",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b, err := u.broker(cmd)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			files := b.systemd()
			if launchd {
				files = []unitFile{b.launchd()}
			}
			switch {
			case asJSON:
				return printJSON(out, files)
			case launchd: // a comment before the first line would make it no XML
				_, err = fmt.Fprint(out, files[0].Content)
				return err
			}
			for i, f := range files {
				if i > 0 {
					fmt.Fprintln(out)
				}
				if _, err := fmt.Fprintf(out, "# %s\n%s", f.Name, f.Content); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&launchd, "launchd", false, "print the property list for launchd instead; it is untested")
	addJSON(cmd, &asJSON)
	return cmd
}
