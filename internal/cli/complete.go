package cli

import (
	"slices"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/service"
)

// completeLiveServices completes one argument with the services that have a
// backend. Without a broker there is nothing to offer.
func completeLiveServices(a *app) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		s, err := a.status(cmd.Context())
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		for _, b := range s.Backends {
			names = append(names, b.Service)
		}
		slices.Sort(names)
		return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeDefined completes arguments, at most limit, with the services that have
// a definition.
func (s *services) completeDefined(limit int) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) >= limit {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		dir, err := s.dir()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		listed, err := service.List(dir)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []cobra.Completion
		for _, l := range listed {
			if !slices.Contains(args, l.Name) {
				names = append(names, l.Name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
