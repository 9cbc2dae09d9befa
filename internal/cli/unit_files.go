package cli

import (
	"encoding/xml"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// unitBroker is the broker that a unit starts.
type unitBroker struct {
	Instance    string // its id
	Program     string // paths are absolute
	Socket      string
	RuntimeDir  string // the user's; a path below it is written relative to it
	Definitions string // empty: where every broker looks
	IdleExit    time.Duration
}

// unitFile is one file of a service manager.
type unitFile struct {
	Name    string `json:"name"`
	Content string `json:"content"`
}

// name is what the units are called: usher, usher-private-notes.
func (b *unitBroker) name() string {
	if b.Instance == "shared" {
		return "usher"
	}
	return "usher-" + strings.ReplaceAll(b.Instance, ":", "-")
}

// arguments are those of usher serve; path and plain write a path and another word.
func (b *unitBroker) arguments(path, plain func(string) string) []string {
	args := []string{"serve", "--instance", plain(b.Instance), "--socket", path(b.Socket)}
	if b.Definitions != "" {
		args = append(args, "--service-def-dir", path(b.Definitions))
	}
	if b.IdleExit > 0 {
		args = append(args, "--idle-exit", plain(b.IdleExit.String()))
	}
	return args
}

// systemd are the units for systemd's user manager.
func (b *unitBroker) systemd() []unitFile {
	exec := append([]string{quoteUnit(percents(b.Program))}, b.arguments(func(path string) string {
		return quoteUnit(strings.ReplaceAll(b.unitPath(path), "$", "$$"))
	}, func(s string) string { return s })...)
	return []unitFile{
		{b.name() + ".socket", fmt.Sprintf(socketUnit, b.Instance, b.unitPath(b.Socket))},
		{b.name() + ".service", fmt.Sprintf(serviceUnit, b.Instance, strings.Join(exec, " "))},
	}
}

// unitPath is path as a unit has it. The user manager's runtime directory is %t, which is
// this user's at every login.
func (b *unitBroker) unitPath(path string) string {
	if dir := filepath.Clean(b.RuntimeDir); b.RuntimeDir != "" && strings.HasPrefix(path, dir+"/") {
		return "%t" + percents(path[len(dir):])
	}
	return percents(path)
}

// percents keeps systemd from taking a % for a specifier.
func percents(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// quoteUnit makes one word of a command line of s (systemd.service(5)).
func quoteUnit(s string) string {
	if !strings.ContainsAny(s, " \"'\\;") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

const socketUnit = `# Written by usher unit. Started first, it starts the broker at its first client.
[Unit]
Description=Socket of the connection broker usher (%s)

[Socket]
ListenStream=%s
SocketMode=0600
DirectoryMode=0700
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
`

const serviceUnit = `# Written by usher unit. Without the socket unit the broker makes its socket itself, and
# the service manager keeps it open through a crash.
[Unit]
Description=Connection broker usher (%s)

[Service]
Type=notify
NotifyAccess=main
ExecStart=%s
Restart=on-failure
WatchdogSec=30s
# Draining takes up to 10 s.
TimeoutStopSec=30s
FileDescriptorStoreMax=4
# Instances that the broker started, and their connections, outlive it; and one that runs
# out of memory takes nobody along.
KillMode=process
OOMPolicy=continue
# Instances keep whatever is taken from the broker here, so nothing is that a backend may
# need: no filter of system calls, no /tmp of its own, no NoNewPrivileges.

[Install]
WantedBy=default.target
`

// launchd is the property list for launchd. Nothing here has run it.
func (b *unitBroker) launchd() unitFile {
	var words strings.Builder
	same := func(s string) string { return s }
	for _, word := range append([]string{b.Program}, b.arguments(same, same)...) {
		words.WriteString("\t\t<string>")
		_ = xml.EscapeText(&words, []byte(word)) // a Builder takes everything
		words.WriteString("</string>\n")
	}
	return unitFile{b.name() + ".plist", fmt.Sprintf(launchdList, b.name(), words.String())}
}

const launchdList = `<?xml version="1.0" encoding="UTF-8"?>
<!-- Written by usher unit, and untested. -->
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
	<key>Label</key>
	<string>%s</string>
	<key>ProgramArguments</key>
	<array>
%s	</array>
	<key>RunAtLoad</key>
	<true/>
	<key>KeepAlive</key>
	<dict>
		<key>SuccessfulExit</key>
		<false/>
	</dict>
	<key>AbandonProcessGroup</key>
	<true/>
	<!-- Else the system throttles processor and disk of the broker, and of what it starts. -->
	<key>ProcessType</key>
	<string>Interactive</string>
</dict>
</plist>
`
