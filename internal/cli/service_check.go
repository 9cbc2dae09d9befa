package cli

import (
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/service"
)

// checked is the verdict on one definition. The keys are part of the JSON output.
type checked struct {
	Service string `json:"service_name"`
	OK      bool   `json:"ok"`
	Error   string `json:"error,omitempty"`
}

func (s *services) checkCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "check [NAME...]",
		Short:             "Check that definitions load and can be served; exit 1 when one does not",
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: s.completeDefined(math.MaxInt),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := s.dir()
			if err != nil {
				return err
			}
			results, err := check(dir, args)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(cmd.OutOrStdout(), results)
			}
			faulty := 0
			for _, r := range results {
				if r.OK {
					continue
				}
				faulty++
				if !asJSON && err == nil {
					_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", r.Service, r.Error)
				}
			}
			switch {
			case err != nil:
				return err
			case faulty > 0:
				return exitWith(exitFailed)
			case len(results) == 0 && !asJSON:
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "no services are defined in %s\n", dir)
			case !asJSON:
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d of %[1]d definitions in %s are sound\n", len(results), dir)
			}
			return err
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

// check judges the named services, or all there are.
func check(dir string, names []string) ([]checked, error) {
	var listed []service.Listed
	if len(names) == 0 {
		var err error
		if listed, err = service.List(dir); err != nil {
			return nil, advised(err)
		}
	}
	for _, name := range names {
		d, err := service.Load(dir, name)
		listed = append(listed, service.Listed{Name: name, Definition: d, Err: err})
	}
	results := make([]checked, 0, len(listed))
	for _, l := range listed {
		r := checked{Service: l.Name, OK: true}
		if err := fault(l); err != nil {
			r.OK, r.Error = false, err.Error()
		}
		results = append(results, r)
	}
	return results, nil
}

// fault says why a broker could not serve the definition.
func fault(l service.Listed) error {
	if l.Err != nil {
		return advised(l.Err)
	}
	if err := l.Definition.CheckUsable(); err != nil {
		return err
	}
	if _, err := l.Definition.Instance(); err != nil {
		return err
	}
	_, err := l.Definition.HandoffPolicy()
	return err
}
