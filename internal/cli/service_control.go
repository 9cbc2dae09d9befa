package cli

import (
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/wire"
)

// defaultWait is how long a service verb waits for what it has begun.
const defaultWait = 10 * time.Second

// controls are the verbs for the instances of a service.
var controls = []struct {
	name, short, long string
	verb              wire.AdminVerb
	waits             bool
}{
	{
		"restart", "Replace the instances of a service, losing nothing",
		"Replace the instances of a service: a new one is started, and once it is ready, the old ones get no more clients\n" +
			"and end after their last connection. When the new one fails, the old ones stay. What was started by hand is told\n" +
			"to go, and has to be started again by hand. A program that knows nothing of usher is asked to end by a signal,\n" +
			"before the new one begins where there is one address for both (mode relay).",
		wire.AdminVerb_ADMIN_VERB_SERVICE_RESTART, true,
	},
	{
		"stop", "End the instances of a service after their last connection",
		"End the instances of a service: they get no more clients, and end after their last connection. The command waits\n" +
			"for that, and says which still serve when its time is over. The next client of a service that is started on demand\n" +
			"starts it again: pause it before, where it must not run. Programs that know nothing of usher, and those that have a\n" +
			"process for each connection, end at once: SIGTERM to the process group, and 5 s later SIGKILL.",
		wire.AdminVerb_ADMIN_VERB_SERVICE_STOP, true,
	},
	{
		"pause", "Have the clients of a service wait",
		"Have the clients of a service wait, while its binary or its data is replaced. Connections that are there go on;\n" +
			"to end them as well, stop the service behind that. Pauses end with the broker.",
		wire.AdminVerb_ADMIN_VERB_SERVICE_PAUSE, false,
	},
	{
		"resume", "Let the clients of a paused service go on",
		"Let the clients of a paused service go on. Without a version every pause of the service ends.",
		wire.AdminVerb_ADMIN_VERB_SERVICE_RESUME, false,
	},
}

func controlCommands(a *app) (cmds []*cobra.Command) {
	for _, c := range controls {
		wait, asJSON := durationValue(defaultWait), false
		cmd := &cobra.Command{
			Use: c.name + " SERVICE[@VERSION]", Short: c.short, Long: c.long,
			Args:              cobra.ExactArgs(1),
			ValidArgsFunction: completeLiveServices(a),
			RunE: func(cmd *cobra.Command, args []string) error {
				service, version, err := parseService(args[0])
				if err != nil {
					return usageError(cmd, err)
				}
				req := &wire.AdminRequest{Verb: c.verb, Json: asJSON, ServiceName: service, ServiceVersion: version}
				if c.waits {
					req.DrainDeadlineMs = wholeMilliseconds(wait)
				}
				return a.relay(cmd, req)
			},
		}
		addJSON(cmd, &asJSON)
		if c.waits {
			cmd.Flags().Var(&wait, "deadline", "how long to wait; what has begun goes on without this command")
		}
		cmds = append(cmds, cmd)
	}
	return cmds
}

// parseService reads SERVICE[@VERSION].
func parseService(text string) (service, version string, err error) {
	service, version, versioned := strings.Cut(text, "@")
	err = names.ServiceName(service)
	if versioned {
		err = errors.Join(err, names.Version(version))
	}
	return service, version, err
}
