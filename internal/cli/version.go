package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// buildInfo says which usher this is. The keys are part of the JSON output.
type buildInfo struct {
	Version  string `json:"version"`            // module version, "(devel)" for a local build
	Go       string `json:"go"`                 // toolchain
	Revision string `json:"revision,omitempty"` // of the source, when the build knew it
	Time     string `json:"time,omitempty"`     // of that revision
	Modified bool   `json:"modified"`           // the source was changed after it
}

// build reads what the linker recorded.
func build() buildInfo {
	b := buildInfo{Version: "(devel)"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	if v := info.Main.Version; v != "" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func versionCommand(*app) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show which usher this is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := build()
			if asJSON {
				return printJSON(cmd.OutOrStdout(), b)
			}
			_, err := io.WriteString(cmd.OutOrStdout(), b.text())
			return err
		},
	}
	addJSON(cmd, &asJSON)
	return cmd
}

func (b buildInfo) text() string {
	text := "usher " + b.Version + "\n"
	if b.Revision != "" {
		changed := ""
		if b.Modified {
			changed = ", changed since"
		}
		text += fmt.Sprintf("revision %s of %s%s\n", b.Revision, b.Time, changed)
	}
	if b.Go != "" {
		text += "built with " + b.Go + "\n"
	}
	return text
}

// printJSON writes v as one line.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
