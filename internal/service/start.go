package service

import (
	"encoding/json"
	"maps"
	"net"
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
	// Mode is how connections reach the program.
	Mode Mode
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
	// MaxPerSecond bounds how many processes of a program that has one a connection begin
	// in a second; 0: as many as the machine takes.
	MaxPerSecond int
	// Listen is the path of a socket on which the broker takes connections for this service
	// alone, of programs that say no Hello; empty: none.
	Listen string
	// Address is where a program with a listener of its own listens: the absolute path of a
	// Unix socket, or the host and port of a TCP one on the loopback.
	Address string
	// Notify says that a program tells when it is ready (sd_notify(3)); else it is as soon as
	// it runs, or answers at Address.
	Notify bool
}

// Mode is how a connection reaches a program that the broker starts.
type Mode string

const (
	// SDK: the program has usher's backend in it, and a channel to the broker.
	SDK Mode = "sdk"
	// Inetd: a process of its own for each connection, which is its standard input and
	// output.
	Inetd Mode = "inetd"
	// Stdio is Inetd with pipes, for programs that don't speak on a socket.
	Stdio Mode = "stdio"
	// Relay: the program listens by itself, at Address.
	Relay Mode = "relay"
	// ListenFDs: one process accepts by itself, from the socket at Listen, which it is
	// started with as systemd does it (sd_listen_fds(3)).
	ListenFDs Mode = "listen-fds"
)

// modes are those that there are, in the order in which they are told.
var modes = []Mode{SDK, Inetd, Stdio, Relay, ListenFDs}

// Modes are the words for a mode.
func Modes() (words []string) {
	for _, m := range modes {
		words = append(words, string(m))
	}
	return words
}

// PerConnection reports whether each connection has a process of its own. The policy may be
// nil.
func (p *StartPolicy) PerConnection() bool { return p != nil && (p.Mode == Inetd || p.Mode == Stdio) }

// OwnListener reports whether one process serves all connections, and accepts them by
// itself. The policy may be nil.
func (p *StartPolicy) OwnListener() bool { return p != nil && (p.Mode == Relay || p.Mode == ListenFDs) }

// Socket is where usher's clients reach a program with an own listener, or the plain clients
// of any other; empty where there is no path.
func (p *StartPolicy) Socket() string {
	if filepath.IsAbs(p.Address) {
		return p.Address
	}
	return p.Listen
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
	labelMode         = "usher.start.mode"
	labelMaxPerSecond = "usher.start.max-per-second"
	labelListen       = "usher.start.listen"
	labelAddress      = "usher.start.address"
	labelNotify       = "usher.start.notify"

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
	p := &StartPolicy{Mode: SDK}
	var env map[string]string
	for label, read := range map[string]func(value string) (want string){
		labelArgs:         jsonInto(&p.Args, "a JSON array of texts"),
		labelEnv:          jsonInto(&env, "a JSON object of texts"),
		labelIdle:         durationInto(&p.Idle),
		labelTimeout:      durationInto(&p.Timeout),
		labelMaxInstances: countInto(&p.MaxInstances),
		labelMaxPerSecond: countInto(&p.MaxPerSecond),
		labelMode:         modeInto(&p.Mode),
		labelListen:       pathInto(&p.Listen),
		labelAddress:      addressInto(&p.Address),
		labelNotify:       switchInto(&p.Notify),
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
	return p, p.agree()
}

// agree judges what does not go together.
func (p *StartPolicy) agree() error {
	switch {
	case p.Mode != SDK && p.V1:
		return &LabelError{Label: labelProtocol, Value: protocolV1, Want: "it with the mode sdk"}
	case p.Mode == SDK && p.Listen != "":
		return &LabelError{Label: labelListen, Value: p.Listen, Want: "it with another mode than sdk, whose programs are told who wants them by Hello"}
	case !p.PerConnection() && p.MaxPerSecond != 0:
		return &LabelError{Label: labelMaxPerSecond, Value: strconv.Itoa(p.MaxPerSecond), Want: "it with a mode that has a process for each connection"}
	case (p.Mode == Relay) != (p.Address != ""):
		return &LabelError{Label: labelAddress, Value: p.Address, Want: "an address with the mode relay, and with no other"}
	case p.Address != "" && p.Address == p.Listen:
		return &LabelError{Label: labelListen, Value: p.Listen, Want: "another path than the program's own"}
	case p.Mode == ListenFDs && p.Listen == "":
		return &LabelError{Label: labelListen, Value: p.Listen, Want: "a path with the mode listen-fds"}
	case !p.OwnListener() && p.Notify:
		return &LabelError{Label: labelNotify, Value: "true", Want: "it with the modes listen-fds and relay"}
	case p.OwnListener() && p.MaxInstances != 0:
		return &LabelError{Label: labelMaxInstances, Value: strconv.Itoa(p.MaxInstances), Want: "it with a mode that has more than one process"}
	case p.OwnListener() && p.Idle != 0:
		return &LabelError{Label: labelIdle, Value: p.Idle.String(), Want: "it with the mode sdk: nobody says how many connections another program has"}
	case p.PerConnection() && p.Idle != 0:
		return &LabelError{Label: labelIdle, Value: p.Idle.String(), Want: "it with a mode whose processes serve many connections"}
	}
	return nil
}

func jsonInto(v any, want string) func(string) string {
	return func(value string) string {
		if json.Unmarshal([]byte(value), v) != nil {
			return want
		}
		return ""
	}
}

func countInto(n *int) func(string) string {
	return func(value string) string {
		v, err := strconv.Atoi(value)
		if *n = v; err != nil || v < 1 {
			return "a whole number above 0"
		}
		return ""
	}
}

func switchInto(on *bool) func(string) string {
	return func(value string) string {
		if *on = value == "true"; !*on && value != "false" {
			return "true or false"
		}
		return ""
	}
}

func modeInto(m *Mode) func(string) string {
	return func(value string) string {
		if *m = Mode(value); !slices.Contains(modes, *m) {
			return "one of " + strings.Join(Modes(), ", ")
		}
		return ""
	}
}

func pathInto(path *string) func(string) string {
	return func(value string) string {
		if *path = filepath.Clean(value); !filepath.IsAbs(value) {
			return "an absolute path"
		}
		return ""
	}
}

// addressInto takes an absolute path, or a port of the loopback.
func addressInto(address *string) func(string) string {
	return func(value string) string {
		if *address = value; filepath.IsAbs(value) {
			*address = filepath.Clean(value)
			return ""
		}
		host, port, err := net.SplitHostPort(value)
		if n, portErr := strconv.Atoi(port); err != nil || portErr != nil || n < 1 || n > 1<<16-1 || !net.ParseIP(host).IsLoopback() {
			return "an absolute path, or an address of the loopback such as 127.0.0.1:6379"
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
	for label, n := range map[string]int{labelMaxInstances: p.MaxInstances, labelMaxPerSecond: p.MaxPerSecond} {
		if n != 0 {
			labels[label] = strconv.Itoa(n)
		}
	}
	if p.Notify {
		labels[labelNotify] = "true"
	}
	if p.Mode != "" && p.Mode != SDK {
		labels[labelMode] = string(p.Mode)
	}
	for label, text := range map[string]string{labelListen: p.Listen, labelAddress: p.Address} {
		if text != "" {
			labels[label] = text
		}
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
	Mode         string            `toml:"mode,omitempty"` // "sdk" when absent
	Args         []string          `toml:"args,omitempty"`
	Env          map[string]string `toml:"env,omitempty"`
	Idle         string            `toml:"idle,omitempty"`
	Timeout      string            `toml:"timeout,omitempty"`
	MaxInstances int               `toml:"max_instances,omitempty"`
	Protocol     string            `toml:"protocol,omitempty"`
	Endpoint     string            `toml:"handoff_endpoint,omitempty"`
	MaxPerSecond int               `toml:"max_per_second,omitempty"`
	Listen       string            `toml:"listen,omitempty"`
	Address      string            `toml:"address,omitempty"`
	Notify       bool              `toml:"notify,omitempty"`
}

// fold adds the table to labels, unread: StartPolicy judges both alike.
func (t *startTable) fold(labels map[string]string) map[string]string {
	if t == nil {
		return labels
	}
	p := StartPolicy{Mode: Mode(t.Mode), Args: t.Args, MaxInstances: t.MaxInstances, MaxPerSecond: t.MaxPerSecond, Listen: t.Listen, Address: t.Address, Notify: t.Notify}
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
		Mode: d.Labels[labelMode], Args: p.Args, Idle: d.Labels[labelIdle], Timeout: d.Labels[labelTimeout],
		MaxInstances: p.MaxInstances, MaxPerSecond: p.MaxPerSecond, Listen: p.Listen, Address: p.Address, Notify: p.Notify,
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
