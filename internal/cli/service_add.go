package cli

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/service"
	"github.com/seed-7265657e/usher/internal/wire"
)

// adding is `usher service add`.
type adding struct {
	*services
	binary, isolation, instance string
	minVersion, versionsDir     string
	allowed                     []string
	labels                      map[string]string
	start                       bool
	mode                        string
	startPolicy                 service.StartPolicy
	idle, startTimeout          durationValue
	protocol                    string
	format                      string
	force                       bool
}

// Words for --format.
var formats = map[string]service.Format{"toml": service.TOML, "servicedef": service.Binary}

func (s *services) addCommand() *cobra.Command {
	a := &adding{services: s}
	cmd := &cobra.Command{
		Use:   "add NAME --binary PATH",
		Short: "Define a service",
		Long: "Define a service. With --start, or anything that says how, the broker starts an instance when a client asks for one\n" +
			"and none runs; otherwise backends start by themselves and register.",
		Example: "  usher service add notes --binary ./notes\n" +
			"  usher service add notes --binary ./notes --start --arg --cache=/tmp/notes --idle 10m\n" +
			"  usher service add files --binary /usr/bin/rsync --mode inetd --arg --daemon --arg --config=/etc/rsyncd.conf --listen ~/rsync.sock\n" +
			"  usher service add notes --binary ./notes --min-version 1.2.0 --label team=web",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              a.run,
	}
	f := cmd.Flags()
	f.StringVar(&a.binary, "binary", "", "the program that serves it (required)")
	f.StringVar(&a.isolation, "isolation", "shared", "which broker serves it: shared, private or explicit")
	f.StringVar(&a.instance, "explicit-instance", "", "that broker's name, with --isolation explicit")
	f.StringVar(&a.minVersion, "min-version", "", "lowest version that clients may ask for")
	f.StringArrayVar(&a.allowed, "allow-version", nil, "a version that clients may ask for; may be repeated (default: every version)")
	f.StringVar(&a.versionsDir, "per-version-binary-dir", "", "directory below which further builds of the program lie")
	f.StringToStringVar(&a.labels, "label", nil, "a label as KEY=VALUE; may be repeated")
	f.BoolVar(&a.start, "start", false, "have the broker start instances on demand")
	f.StringVar(&a.mode, "mode", string(service.SDK), "how connections reach it, started by the broker: "+strings.Join(service.Modes(), ", "))
	f.StringVar(&a.startPolicy.Listen, "listen", "", "a socket for clients that know nothing of usher: who connects there gets this service")
	f.StringVar(&a.startPolicy.Address, "address", "", "where the program listens by itself, with --mode relay: a path, or 127.0.0.1:PORT")
	f.BoolVar(&a.startPolicy.Notify, "notify", false, "the program says when it is ready (sd_notify), with --mode listen-fds or relay")
	f.StringArrayVar(&a.startPolicy.Args, "arg", nil, "an argument of instances that the broker starts; may be repeated")
	f.StringArrayVar(&a.startPolicy.Env, "env", nil, "a variable of theirs, as NAME=VALUE, beside those of a login; may be repeated")
	f.Var(&a.idle, "idle", "how long such an instance lives without a connection (default: for ever)")
	f.Var(&a.startTimeout, "start-timeout", "how long one may take until it is ready (default 10s)")
	f.IntVar(&a.startPolicy.MaxInstances, "max-instances", 0, "how many instances of all versions may live at once")
	f.StringVar(&a.protocol, "protocol", "", "v1 for instances that know nothing of usher (default: usher's own)")
	f.StringVar(&a.startPolicy.HandoffEndpoint, "handoff-endpoint", "", "where they take connections over, with --protocol v1 (default: clients reconnect)")
	f.IntVar(&a.startPolicy.MaxPerSecond, "max-per-second", 0, "how many processes may begin in a second, with a mode that has one a connection")
	f.StringVar(&a.format, "format", "toml", "file format: toml, or servicedef, which every v1 program reads")
	f.BoolVar(&a.force, "force", false, "replace an existing definition")
	return cmd
}

func (a *adding) run(cmd *cobra.Command, args []string) error {
	if a.binary == "" {
		return usageError(cmd, errors.New("say with --binary which program serves it"))
	}
	if err := names.ServiceName(args[0]); err != nil {
		return usageError(cmd, err)
	}
	format, ok := formats[a.format]
	if !ok {
		return usageError(cmd, fmt.Errorf("format %q is not one of toml, servicedef", a.format))
	}
	isolation, err := service.ParseIsolation(a.isolation)
	if err != nil {
		return usageError(cmd, err)
	}
	d := &wire.ServiceDefinition{
		ServiceName:      args[0],
		Isolation:        isolation,
		ExplicitInstance: a.instance,
		MinVersion:       a.minVersion,
		VersionAllowList: a.allowed,
		Labels:           a.labels,
	}
	if d.BinaryPath, err = filepath.Abs(a.binary); err != nil {
		return err
	}
	if a.versionsDir != "" {
		if d.PerVersionBinaryDir, err = filepath.Abs(a.versionsDir); err != nil {
			return err
		}
	}
	if err := a.addStart(cmd, d); err != nil {
		return usageError(cmd, err)
	}
	dir, err := a.dir()
	if err != nil {
		return err
	}
	path, err := a.save(dir, d, format)
	if err != nil {
		return err
	}
	if _, err := os.Stat(d.BinaryPath); err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "usher: warning: %v: no backend can register until it is there\n", err)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), path)
	return err
}

// addStart adds how the broker starts instances, if anything was said about that.
func (a *adding) addStart(cmd *cobra.Command, d *wire.ServiceDefinition) error {
	for _, flag := range []string{"mode", "listen", "address", "notify", "arg", "env", "idle", "start-timeout", "max-instances", "max-per-second", "protocol", "handoff-endpoint"} {
		a.start = a.start || cmd.Flags().Changed(flag)
	}
	if !a.start {
		return nil
	}
	p := a.startPolicy
	switch a.protocol {
	case "":
	case "v1":
		p.V1 = true
	default:
		return fmt.Errorf("--protocol is %q: use v1, or leave it out", a.protocol)
	}
	p.Mode = service.Mode(a.mode)
	if p.Listen != "" {
		path, err := filepath.Abs(p.Listen)
		if err != nil {
			return err
		}
		p.Listen = path
	}
	p.Idle, p.Timeout = time.Duration(a.idle), time.Duration(a.startTimeout)
	for _, entry := range p.Env {
		if name, _, ok := strings.Cut(entry, "="); !ok || name == "" {
			return fmt.Errorf("--env is %q: use NAME=VALUE", entry)
		}
	}
	labels := p.Labels()
	maps.Copy(labels, d.Labels)
	d.Labels = labels
	_, err := (&service.Definition{ServiceDefinition: d}).StartPolicy()
	return err
}

// save writes d where nothing is defined yet, or anywhere with --force. A
// definition in another format is only removed for one that can take its place.
func (a *adding) save(dir string, d *wire.ServiceDefinition, format service.Format) (string, error) {
	if !a.force {
		if err := vacant(dir, d.ServiceName); err != nil {
			return "", err
		}
	}
	path, err := service.Save(dir, d, format)
	var conflict *service.ConflictError
	if !errors.As(err, &conflict) || !a.force {
		return path, err
	}
	if err := service.Remove(dir, d.ServiceName); err != nil {
		return "", err
	}
	return service.Save(dir, d, format)
}

// vacant reports what already defines the service.
func vacant(dir, name string) error {
	var insecure *service.InsecureDirectoryError
	_, err := service.Load(dir, name)
	switch {
	case errors.Is(err, service.ErrNotFound):
		return nil
	case errors.As(err, &insecure):
		return insecure.Err
	case err != nil:
		return fmt.Errorf("service %q has a definition that does not load (%w): replace it with --force", name, err)
	}
	return fmt.Errorf("service %q is defined already: replace it with --force, or look at it with \"usher service show %[1]s\"", name)
}
