package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/endpoint"
	"github.com/seed-7265657e/usher/internal/logfile"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/watch"
)

func logsCommand(a *app) *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs SERVICE",
		Short: "Show what the instances that the broker started have said",
		Long: "Show what the instances of a service that the broker started have said on standard output and error: the last\n" +
			"megabyte or two. A one-binary tool has a log for each of its daemons.",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: completeLiveServices(a),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := names.ServiceName(args[0]); err != nil {
				return usageError(cmd, err)
			}
			dir, err := a.logDir(cmd.Context())
			if err != nil {
				return err
			}
			l := &logs{dir: dir, service: args[0], out: cmd.OutOrStdout(), read: make(map[string]int64)}
			if !follow {
				return l.show()
			}
			return l.follow(cmd.Context())
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is said from now on, until interrupted")
	return cmd
}

// logDir is where the broker's instances log to; without a broker, those of the shared one.
func (a *app) logDir(ctx context.Context) (string, error) {
	s, err := a.status(ctx)
	var none *NoBrokerError
	switch {
	case err == nil && s.LogDir != "":
		return s.LogDir, nil
	case err == nil:
		return "", errNoInstances
	case !errors.As(err, &none):
		return "", err
	}
	state, err := endpoint.StateDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(state, endpoint.Shared().String()), nil
}

// logs is the logs of one service, as far as they have been shown.
type logs struct {
	dir, service string
	out          io.Writer
	read         map[string]int64 // by path, in bytes
	shown        string           // whose path stands above what was written last
}

// variant is what follows the service's name in the log of one of several daemons.
var variant = regexp.MustCompile(`^-[0-9a-f]{16}$`)

func (l *logs) paths() (paths []string, err error) {
	entries, err := os.ReadDir(l.dir)
	for _, e := range entries {
		rest, ok := strings.CutPrefix(strings.TrimSuffix(e.Name(), ".log"), l.service)
		if ok && strings.HasSuffix(e.Name(), ".log") && (rest == "" || variant.MatchString(rest)) {
			paths = append(paths, filepath.Join(l.dir, e.Name()))
		}
	}
	slices.Sort(paths)
	return paths, err
}

func (l *logs) show() error {
	paths, err := l.paths()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(paths) == 0 {
		return fmt.Errorf("no instance of %q has logged in %s: the broker has started none", l.service, l.dir)
	}
	for _, path := range paths {
		if err := l.showOlder(path, 0, len(paths) > 1); err != nil {
			return err
		}
	}
	return l.more()
}

// more shows what the logs have that was not shown.
func (l *logs) more() error {
	paths, err := l.paths()
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := l.moreOf(path, len(paths) > 1); err != nil {
			return err
		}
	}
	return nil
}

func (l *logs) moreOf(path string, several bool) error {
	fi, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.Size() < l.read[path]: // it has begun anew
		if err := l.showOlder(path, l.read[path], several); err != nil {
			return err
		}
		l.read[path] = 0
	}
	n, err := l.copy(path, path, l.read[path], several)
	l.read[path] += n
	return err
}

// showOlder shows what was moved away from the log at path, behind byte from: nothing where
// that is more than is left of it.
func (l *logs) showOlder(path string, from int64, several bool) error {
	_, err := l.copy(logfile.Older(path), path, from, several)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// copy writes a file from a byte on, under the name of its log where there are several.
func (l *logs) copy(file, path string, from int64, several bool) (int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || fi.Size() <= from {
		return 0, err
	}
	if several && l.shown != path {
		l.shown = path
		if _, err := fmt.Fprintf(l.out, "==> %s <==\n", path); err != nil {
			return 0, err
		}
	}
	return io.Copy(l.out, io.NewSectionReader(f, from, fi.Size()-from))
}

// follow shows the logs, and what is added to them, until ctx ends. It sleeps until the
// system says that something has changed.
func (l *logs) follow(ctx context.Context) error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil { // an instance may be about to log there
		return err
	}
	w, err := watch.NewFollower()
	if err != nil {
		return fmt.Errorf("follow the log: %w", err)
	}
	defer w.Close()
	if err := w.Add(l.dir); err != nil {
		return err
	}
	paths, err := l.paths()
	if err == nil && len(paths) > 0 {
		err = l.show()
	}
	for err == nil {
		if err = w.Wait(ctx); err == nil || ctx.Err() != nil {
			err = errors.Join(l.more(), err) // at the end, what was said before
		}
	}
	return err
}
