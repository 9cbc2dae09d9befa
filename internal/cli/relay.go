package cli

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/wire"
)

// relayed are the verbs that show the broker's answer to one admin verb as it is.
var relayed = []struct {
	use, short string
	verb       wire.AdminVerb
	asJSON     bool // takes --json, as everywhere; there is nothing else
}{
	{"healthz", "Ask whether the broker is alive", wire.AdminVerb_ADMIN_VERB_HEALTHZ, false},
	{"readyz", "Ask whether the broker takes clients; exit 1 when it does not", wire.AdminVerb_ADMIN_VERB_READYZ, false},
	{"list-instances", "Show the broker's instance and socket, as JSON", wire.AdminVerb_ADMIN_VERB_LIST_INSTANCES, true},
	{"config", "Show the broker's settings and where they come from, as JSON", wire.AdminVerb_ADMIN_VERB_CONFIG, true},
	{"dump", "Show the broker's configuration and backends, as JSON", wire.AdminVerb_ADMIN_VERB_DUMP, true},
	{"metrics", "Show the broker's metrics, as OpenMetrics text", wire.AdminVerb_ADMIN_VERB_METRICS, false},
}

func relayCommands(a *app) (cmds []*cobra.Command) {
	for _, r := range relayed {
		cmd := &cobra.Command{
			Use: r.use, Short: r.short, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return a.relay(cmd, &wire.AdminRequest{Verb: r.verb}) },
		}
		if r.asJSON {
			addJSON(cmd, new(bool))
		}
		cmds = append(cmds, cmd)
	}
	return cmds
}

// relay asks the broker, prints its answer as it is and ends with the exit code
// that it names.
func (a *app) relay(cmd *cobra.Command, req *wire.AdminRequest) error {
	reply, err := a.ask(cmd.Context(), req)
	if err != nil {
		return err
	}
	body := reply.Body
	if !strings.HasSuffix(body, "\n") {
		body += "\n"
	}
	if _, err := io.WriteString(cmd.OutOrStdout(), body); err != nil {
		return err
	}
	return exitWith(int(min(reply.ExitCode, maxExitCode)))
}

// maxExitCode is the largest code that a shell tells from others.
const maxExitCode = 255
