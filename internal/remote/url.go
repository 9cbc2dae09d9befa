// Package remote reaches brokers of other hosts: it runs ssh, which runs usher there.
//
//	client ══ stream ══ ssh ┄┄ sshd ── usher connect --raw ══ the broker's socket, or a pipe
//
// ssh is the one of PATH, with its configuration and its agent. It has one end of a stream
// as standard input and output, and this process the other, so that deadlines are those of
// any Unix socket. The broker's protocol goes through as it is: usher on the other host is
// the broker's client, and what is handed over there is its connection.
//
// Descriptors: the near end is the caller's, the far one ssh's alone.
package remote

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const scheme = "ssh://"

// IsURL reports whether broker names a broker on another host.
func IsURL(broker string) bool { return strings.HasPrefix(broker, scheme) }

// Host is where a broker is.
type Host struct {
	name   string   // as ssh is told
	args   []string // of ssh, before the name
	usher  string   // the program there
	socket string   // the broker's there; "" for that host's own choice
}

// usherParameter names the program on the other host, for those that PATH does not lead to
// it.
const usherParameter = "usher"

// Parse parses ssh://[USER@]HOST[:PORT][/SOCKET][?usher=PROGRAM]. SOCKET is the absolute
// path of the broker's socket on that host, and PROGRAM usher's there.
func Parse(broker string) (*Host, error) {
	h, err := parse(broker)
	if err != nil {
		return nil, fmt.Errorf("broker %q: %w: want ssh://[USER@]HOST[:PORT][/SOCKET][?usher=PROGRAM]", broker, err)
	}
	return h, nil
}

func parse(broker string) (*Host, error) {
	u, err := url.Parse(broker)
	if err != nil {
		return nil, errors.Unwrap(err) // without the URL, which Parse says
	}
	h := &Host{name: u.Hostname(), usher: "usher", socket: u.Path}
	if h.socket == "/" {
		h.socket = ""
	}
	if port := u.Port(); port != "" {
		h.args = append(h.args, "-p", port)
	}
	if u.User != nil {
		if _, has := u.User.Password(); has {
			return nil, errors.New("a password does not belong into an URL")
		}
		h.args = append(h.args, "-l", u.User.Username())
	}
	for key, values := range u.Query() {
		if key != usherParameter || len(values) != 1 || values[0] == "" {
			return nil, fmt.Errorf("%q is no parameter, or has no value", key)
		}
		h.usher = values[0]
	}
	switch {
	case u.Fragment != "":
		return nil, errors.New("a fragment has no meaning")
	case h.name == "":
		return nil, errors.New("no host")
	case strings.HasPrefix(h.name, "-"), u.User != nil && (u.User.Username() == "" || strings.HasPrefix(u.User.Username(), "-")):
		return nil, errors.New("a name that ssh would take for an option")
	}
	return h, nil
}

// command is what ssh is told, to connect to pipe, or to the broker where it is empty.
func (h *Host) command(pipe string) []string {
	words := []string{h.usher, "connect", "--raw"}
	if h.socket != "" {
		words = append(words, "--socket", h.socket)
	}
	if pipe != "" {
		words = append(words, "--", pipe)
	}
	for i, w := range words {
		words[i] = quote(w)
	}
	// No forwarding that the configuration asks for: it would fail where another ssh has it.
	args := append([]string{"-T", "-o", "ClearAllForwardings=yes"}, h.args...)
	return append(args, "--", h.name, strings.Join(words, " "))
}

// quote makes one word of text, for the shell on the other host.
func quote(text string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./"
	if text != "" && strings.Trim(text, plain) == "" {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}
