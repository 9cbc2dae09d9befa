package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/eventlog"
	"github.com/seed-7265657e/usher/internal/wire"
)

// events is `usher events`.
type events struct {
	instance, file, service string
	follow, json            bool
}

func eventsCommand(*app) *cobra.Command {
	e := new(events)
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what a broker has started, lost, refused and sent another way",
		Long: "Show the events of a broker's life, the oldest first: every instance that was started, is ready, or has ended, and\n" +
			"why; every refusal and every connection that was not handed over; its own beginning and end. It reads the file that\n" +
			"the broker keeps, and needs no broker that runs.",
		Example: "  usher events\n" +
			"  usher events --follow --service notes\n" +
			"  usher events --instance private:mytool --json",
		Args: cobra.NoArgs,
		RunE: e.run,
	}
	f := cmd.Flags()
	f.BoolVarP(&e.follow, "follow", "f", false, "go on with what happens, until interrupted")
	f.StringVar(&e.service, "service", "", "only those of one service")
	f.StringVar(&e.instance, "instance", endpoint.Shared().String(), "which broker's: shared, private:SERVICE or explicit:NAME")
	f.StringVar(&e.file, "file", "", "the file, where the broker was told another one (usher serve --events)")
	addJSON(cmd, &e.json)
	_ = cmd.RegisterFlagCompletionFunc("service", e.completeServices)
	_ = cmd.RegisterFlagCompletionFunc("instance", completeInstances)
	return cmd
}

func (e *events) run(cmd *cobra.Command, _ []string) error {
	path, err := e.path()
	if err != nil {
		return usageError(cmd, err)
	}
	out := cmd.OutOrStdout()
	say := e.text(out)
	if e.json {
		say = func(event *wire.LifecycleEvent) error { return sayJSON(out, event) }
	}
	each := func(event *wire.LifecycleEvent) error {
		if e.service != "" && event.ServiceName != e.service {
			return nil
		}
		return say(event)
	}
	if e.follow {
		return eventlog.Follow(cmd.Context(), path, each)
	}
	return eventlog.Read(path, each)
}

// path is --file, else that of the instance.
func (e *events) path() (string, error) {
	if e.file != "" {
		return filepath.Abs(e.file)
	}
	instance, err := endpoint.ParseInstance(e.instance)
	if err != nil {
		return "", err
	}
	return eventlog.Path(instance.String())
}

// Colours of a terminal.
const (
	yellow = "\x1b[33m"
	red    = "\x1b[31m"
	ending = "\x1b[0m"
)

// The least severities that have a colour.
const (
	severityWarning = 13
	severityError   = 17
)

// text says an event in one line: when, what, of which service and version, which
// process, why.
func (e *events) text(out io.Writer) func(*wire.LifecycleEvent) error {
	colours := isTerminal(out) && os.Getenv("NO_COLOR") == ""
	return func(event *wire.LifecycleEvent) error {
		name, end := fmt.Sprintf("%-19s", eventlog.Name(event)), ""
		if colours {
			switch {
			case event.SeverityNumber >= severityError:
				name, end = red+name, ending
			case event.SeverityNumber >= severityWarning:
				name, end = yellow+name, ending
			}
		}
		about := event.ServiceName
		if version := event.Extra["version"]; version != "" {
			about += "@" + version
		}
		if about == "" {
			about = "-"
		}
		line := fmt.Sprintf("%s  %s%s  %s", eventTime(event).Format("2006-01-02 15:04:05.000"), name, end, about)
		if event.Pid != 0 {
			line += fmt.Sprintf("  pid %d", event.Pid)
		}
		if event.Reason != "" {
			line += "  " + oneLine(event.Reason)
		}
		_, err := fmt.Fprintln(out, line)
		return err
	}
}

// oneLine keeps what others have written from moving a terminal's cursor.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

func eventTime(event *wire.LifecycleEvent) time.Time { return time.UnixMilli(int64(event.TsMs)) }

// sayJSON says an event as an object on one line, in the names of the schema.
func sayJSON(out io.Writer, event *wire.LifecycleEvent) error {
	return json.NewEncoder(out).Encode(struct {
		Time         string            `json:"time"`
		TsMs         uint64            `json:"ts_ms"`
		Kind         string            `json:"kind"`
		Pid          uint32            `json:"pid,omitempty"`
		Service      string            `json:"service_name,omitempty"`
		Reason       string            `json:"reason,omitempty"`
		Extra        map[string]string `json:"extra,omitempty"`
		Severity     string            `json:"severity_text,omitempty"`
		Number       uint32            `json:"severity_number,omitempty"`
		RequestID    string            `json:"request_id,omitempty"`
		ConnectionID uint64            `json:"connection_id,omitempty"`
		Instance     string            `json:"broker_instance,omitempty"`
	}{
		eventTime(event).UTC().Format(time.RFC3339Nano), event.TsMs, event.Kind.String(), event.Pid, event.ServiceName, event.Reason, event.Extra,
		event.SeverityText, event.SeverityNumber, event.RequestId, event.ConnectionId, event.BrokerInstance,
	})
}

// completeServices completes with the services that the file tells of.
func (e *events) completeServices(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	if path, err := e.path(); err == nil {
		_ = eventlog.Read(path, func(event *wire.LifecycleEvent) error {
			if event.ServiceName != "" {
				names = append(names, event.ServiceName)
			}
			return nil
		})
	}
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}

// completeInstances completes with the instances that have left events.
func completeInstances(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var names []cobra.Completion
	if state, err := endpoint.StateDir(); err == nil {
		found, _ := filepath.Glob(filepath.Join(state, "*", eventlog.FileName))
		for _, file := range found {
			names = append(names, strings.Replace(filepath.Base(filepath.Dir(file)), "-", ":", 1))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
