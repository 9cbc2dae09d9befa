package cli

import (
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/service"
)

func (s *services) listCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the defined services",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := s.dir()
			if err != nil {
				return err
			}
			listed, err := service.List(dir)
			if err != nil {
				return advised(err)
			}
			views := make([]definitionView, 0, len(listed))
			for _, l := range listed {
				views = append(views, view(l))
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), views)
			}
			if len(views) == 0 {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "no services are defined in %s: add one with \"usher service add\"\n", dir)
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "SERVICE\tISOLATION\tVERSIONS\tBINARY")
			for _, v := range views {
				if v.Error != "" {
					fmt.Fprintf(w, "%s\t-\t-\tdoes not load: see \"usher service check %[1]s\"\n", v.Service)
					continue
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", v.Service, v.Isolation, v.versions(), v.BinaryPath)
			}
			return w.Flush()
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}
