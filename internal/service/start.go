package service

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// StartPolicy is how a broker starts instances of a service by itself. In a TOML
// definition it is the table [start]; in a v1 definition file, which has no place for it,
// it is labels.
type StartPolicy struct {
	Args []string
	// Env are variables, NAME=value each, in the order of their names.
	Env []string
	// Idle is how long an instance lives without a connection; 0: for ever.
	Idle time.Duration
	// Timeout is how long an instance may take until it is ready; 0: the broker's own.
	Timeout time.Duration
	// MaxInstances bounds the instances of all versions and builds; 0: the broker's own.
	MaxInstances int
	// V1 says that instances know nothing of usher: they are told their pipe, which the
	// broker has bound, and asked once who they are (spec 03 §11).
	V1 bool
	// HandoffEndpoint is where such an instance takes handed-over connections (spec 02 §8);
	// empty: its clients reconnect.
	HandoffEndpoint string
}

// The labels of a StartPolicy. Without labelStart the service is not started by the broker.
const (
	labelStart        = "usher.start"
	labelArgs         = "usher.start.args" // a JSON array of texts
	labelEnv          = "usher.start.env"  // a JSON object of texts
	labelIdle         = "usher.start.idle"
	labelTimeout      = "usher.start.timeout"
	labelMaxInstances = "usher.start.max-instances"
	labelProtocol     = "usher.start.protocol"
	labelEndpoint     = "usher.start.handoff-endpoint"

	onDemand   = "on-demand"
	protocolV1 = "v1"
)

// StartPolicy reads the labels; nil where instances are not started by the broker. Errors:
// *LabelError.
func (d *Definition) StartPolicy() (*StartPolicy, error) {
	switch value, set := d.Labels[labelStart]; {
	case !set:
		return nil, nil
	case value != onDemand:
		return nil, &LabelError{Label: labelStart, Value: value, Want: onDemand}
	}
	p := new(StartPolicy)
	var env map[string]string
	for label, read := range map[string]func(value string) (want string){
		labelArgs:    jsonInto(&p.Args, "a JSON array of texts"),
		labelEnv:     jsonInto(&env, "a JSON object of texts"),
		labelIdle:    durationInto(&p.Idle),
		labelTimeout: durationInto(&p.Timeout),
		labelMaxInstances: func(value string) string {
			n, err := strconv.Atoi(value)
			if p.MaxInstances = n; err != nil || n < 1 {
				return "a whole number above 0"
			}
			return ""
		},
		labelProtocol: func(value string) string {
			if p.V1 = value == protocolV1; !p.V1 {
				return protocolV1 + ", or nothing for usher's own"
			}
			return ""
		},
		labelEndpoint: func(value string) string {
			p.HandoffEndpoint = value
			if !filepath.IsAbs(value) || d.Labels[labelProtocol] != protocolV1 {
				return "an absolute path, with protocol v1"
			}
			return ""
		},
	} {
		value, set := d.Labels[label]
		if !set {
			continue
		}
		if want := read(value); want != "" {
			return nil, &LabelError{Label: label, Value: value, Want: want}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(env[name], "\x00") {
			return nil, &LabelError{Label: labelEnv, Value: name, Want: "names without = and texts without a zero byte"}
		}
		p.Env = append(p.Env, name+"="+env[name])
	}
	return p, nil
}

func jsonInto(v any, want string) func(string) string {
	return func(value string) string {
		if json.Unmarshal([]byte(value), v) != nil {
			return want
		}
		return ""
	}
}

func durationInto(d *time.Duration) func(string) string {
	return func(value string) string {
		v, err := time.ParseDuration(value)
		if *d = v; err != nil || v <= 0 {
			return "a time above 0, such as 10m or 30s"
		}
		return ""
	}
}

// Labels are the policy as labels of a definition.
func (p *StartPolicy) Labels() map[string]string {
	if p == nil {
		return nil
	}
	labels := map[string]string{labelStart: onDemand}
	if len(p.Args) > 0 {
		text, _ := json.Marshal(p.Args) // texts can be marshalled
		labels[labelArgs] = string(text)
	}
	if len(p.Env) > 0 {
		env := make(map[string]string, len(p.Env))
		for _, entry := range p.Env {
			name, value, _ := strings.Cut(entry, "=")
			env[name] = value
		}
		text, _ := json.Marshal(env)
		labels[labelEnv] = string(text)
	}
	for label, d := range map[string]time.Duration{labelIdle: p.Idle, labelTimeout: p.Timeout} {
		if d != 0 {
			labels[label] = d.String()
		}
	}
	if p.MaxInstances != 0 {
		labels[labelMaxInstances] = strconv.Itoa(p.MaxInstances)
	}
	if p.V1 {
		labels[labelProtocol] = protocolV1
	}
	if p.HandoffEndpoint != "" {
		labels[labelEndpoint] = p.HandoffEndpoint
	}
	return labels
}

// isStartLabel reports whether a label belongs to a StartPolicy.
func isStartLabel(label string) bool {
	return label == labelStart || strings.HasPrefix(label, labelStart+".")
}

// startTable is a StartPolicy as people write it.
type startTable struct {
	Args         []string          `toml:"args,omitempty"`
	Env          map[string]string `toml:"env,omitempty"`
	Idle         string            `toml:"idle,omitempty"`
	Timeout      string            `toml:"timeout,omitempty"`
	MaxInstances int               `toml:"max_instances,omitempty"`
	Protocol     string            `toml:"protocol,omitempty"`
	Endpoint     string            `toml:"handoff_endpoint,omitempty"`
}

// fold adds the table to labels, unread: StartPolicy judges both alike.
func (t *startTable) fold(labels map[string]string) map[string]string {
	if t == nil {
		return labels
	}
	p := StartPolicy{Args: t.Args, MaxInstances: t.MaxInstances}
	for name, value := range t.Env {
		p.Env = append(p.Env, name+"="+value)
	}
	all := p.Labels()
	for label, text := range map[string]string{labelIdle: t.Idle, labelTimeout: t.Timeout, labelProtocol: t.Protocol, labelEndpoint: t.Endpoint} {
		if text != "" {
			all[label] = text
		}
	}
	maps.Copy(all, labels)
	return all
}

// unfold is the table of d, which is nil where it has none, and the labels beside it.
func unfold(d *Definition) (*startTable, map[string]string, error) {
	p, err := d.StartPolicy()
	if p == nil {
		return nil, d.Labels, err
	}
	rest := make(map[string]string)
	for label, value := range d.Labels {
		if !isStartLabel(label) {
			rest[label] = value
		}
	}
	t := &startTable{
		Args: p.Args, Idle: d.Labels[labelIdle], Timeout: d.Labels[labelTimeout], MaxInstances: p.MaxInstances,
		Protocol: d.Labels[labelProtocol], Endpoint: d.Labels[labelEndpoint],
	}
	for _, entry := range p.Env {
		name, value, _ := strings.Cut(entry, "=")
		if t.Env == nil {
			t.Env = make(map[string]string)
		}
		t.Env[name] = value
	}
	return t, rest, nil
}
