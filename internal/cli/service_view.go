package cli

import (
	"strings"

	"github.com/seed-7265657e/usher/internal/service"
)

// definitionView is a definition as people and --json see it. The keys are those
// of the TOML format.
type definitionView struct {
	Service             string            `json:"service_name"`
	Path                string            `json:"path,omitempty"`
	BinaryPath          string            `json:"binary_path,omitempty"`
	Isolation           string            `json:"isolation,omitempty"`
	ExplicitInstance    string            `json:"explicit_instance,omitempty"`
	PerVersionBinaryDir string            `json:"per_version_binary_dir,omitempty"`
	MinVersion          string            `json:"min_version,omitempty"`
	VersionAllowList    []string          `json:"version_allow_list,omitempty"`
	Labels              map[string]string `json:"labels,omitempty"`
	Error               string            `json:"error,omitempty"` // why it does not load
}

func view(l service.Listed) definitionView {
	if l.Err != nil {
		return definitionView{Service: l.Name, Error: l.Err.Error()}
	}
	d := l.Definition
	return definitionView{
		Service:             d.ServiceName,
		Path:                d.Path,
		BinaryPath:          d.BinaryPath,
		Isolation:           service.IsolationWord(d.Isolation),
		ExplicitInstance:    d.ExplicitInstance,
		PerVersionBinaryDir: d.PerVersionBinaryDir,
		MinVersion:          d.MinVersion,
		VersionAllowList:    d.VersionAllowList,
		Labels:              d.Labels,
	}
}

// versions says which versions may be asked for.
func (v definitionView) versions() string {
	var rules []string
	if v.MinVersion != "" {
		rules = append(rules, "from "+v.MinVersion)
	}
	if len(v.VersionAllowList) > 0 {
		rules = append(rules, "only "+strings.Join(v.VersionAllowList, ", "))
	}
	if len(rules) == 0 {
		return "every version"
	}
	return strings.Join(rules, ", ")
}
