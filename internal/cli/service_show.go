package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/service"
)

func (s *services) showCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "show NAME",
		Short:             "Show one service definition",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: s.completeDefined(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := s.dir()
			if err != nil {
				return err
			}
			d, err := service.Load(dir, args[0])
			if err != nil {
				return fmt.Errorf("service %q in %s: %w", args[0], dir, advised(err))
			}
			v := view(service.Listed{Name: args[0], Definition: d})
			if asJSON {
				return printJSON(cmd.OutOrStdout(), v)
			}
			return v.print(cmd.OutOrStdout())
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func (v definitionView) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "service\t%s\nfile\t%s\nbinary\t%s\n", v.Service, v.Path, v.BinaryPath)
	if v.PerVersionBinaryDir != "" {
		fmt.Fprintf(w, "further builds\t%s\n", v.PerVersionBinaryDir)
	}
	fmt.Fprintf(w, "isolation\t%s\n", v.Isolation)
	if v.ExplicitInstance != "" {
		fmt.Fprintf(w, "instance\t%s\n", v.ExplicitInstance)
	}
	fmt.Fprintf(w, "versions\t%s\n", v.versions())
	for _, key := range slices.Sorted(maps.Keys(v.Labels)) {
		fmt.Fprintf(w, "label\t%s=%s\n", key, v.Labels[key])
	}
	return w.Flush()
}
