package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/natefinch/atomic"
	"github.com/spf13/cobra"

	"github.com/seed-7265657e/usher/internal/endpoint"
)

// installing is `usher unit install`.
type installing struct {
	*units
	force, dryRun, asJSON bool
}

// installed is what has become of the units.
type installed struct {
	Files []installedFile `json:"files"`
	Next  []string        `json:"next"` // commands
}

type installedFile struct {
	Path  string `json:"path"`
	State string `json:"state"`
	unit  unitFile
}

// States of an installedFile.
const (
	unitMissing   = "missing"
	unitUnchanged = "unchanged"
	unitDiffers   = "differs"
	unitWritten   = "written"
)

func (u *units) installCommand() *cobra.Command {
	i := &installing{units: u}
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Write the units where the user's systemd finds them",
		Long: "Write the units to $XDG_CONFIG_HOME/systemd/user, else ~/.config/systemd/user, and say what to do next.\n" +
			"A unit that is there already and differs is left alone, unless --force is given.",
		Example:           "  usher unit install --idle-exit 10m\n  usher unit install --dry-run",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return i.run(cmd) },
	}
	f := cmd.Flags()
	f.BoolVar(&i.force, "force", false, "replace units that differ")
	f.BoolVar(&i.dryRun, "dry-run", false, "write nothing: say what differs")
	addJSON(cmd, &i.asJSON)
	return cmd
}

func (i *installing) run(cmd *cobra.Command) error {
	b, err := i.broker(cmd)
	if err != nil {
		return err
	}
	dir, err := endpoint.ConfigHome()
	if err != nil {
		return fmt.Errorf("no place for units: %w", err)
	}
	result, err := plan(filepath.Join(dir, "systemd", "user"), b)
	if err != nil {
		return err
	}
	if !i.dryRun {
		if err := result.write(i.force); err != nil {
			return err
		}
	}
	if i.asJSON {
		return printJSON(cmd.OutOrStdout(), result)
	}
	return result.print(cmd.OutOrStdout())
}

// plan compares the units with what is in dir.
func plan(dir string, b unitBroker) (installed, error) {
	r := installed{Next: []string{"systemctl --user daemon-reload", "systemctl --user enable --now " + b.name() + ".socket"}}
	for _, u := range b.systemd() {
		f := installedFile{Path: filepath.Join(dir, u.Name), State: unitDiffers, unit: u}
		there, err := os.ReadFile(f.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			f.State = unitMissing
		case err != nil:
			return r, err
		case string(there) == u.Content:
			f.State = unitUnchanged
		}
		r.Files = append(r.Files, f)
	}
	if r.in(unitDiffers) != "" {
		r.Next = append(r.Next, "systemctl --user try-restart "+b.name()+".socket "+b.name()+".service")
	}
	return r, nil
}

// in returns the paths of the files in a state.
func (r *installed) in(state string) string {
	var paths []string
	for _, f := range r.Files {
		if f.State == state {
			paths = append(paths, f.Path)
		}
	}
	return strings.Join(paths, ", ")
}

// write writes what is missing, and with force what differs; without it nothing is
// written where anything differs.
func (r *installed) write(force bool) error {
	if differ := r.in(unitDiffers); differ != "" && !force {
		return fmt.Errorf("%s is there and differs from what usher would write: compare it with usher unit print, and replace it with --force", differ)
	}
	for i := range r.Files {
		f := &r.Files[i]
		if f.State == unitUnchanged {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
			return err
		}
		if err := atomic.WriteFile(f.Path, bytes.NewReader([]byte(f.unit.Content))); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
		if err := os.Chmod(f.Path, 0o644); err != nil {
			return err
		}
		f.State = unitWritten
	}
	return nil
}

func (r *installed) print(out io.Writer) error {
	for _, f := range r.Files {
		fmt.Fprintf(out, "%-9s %s\n", f.State, f.Path)
	}
	_, err := fmt.Fprintf(out, "next:\n  %s\n", strings.Join(r.Next, "\n  "))
	return err
}
