package cli

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-7265657e/usher/broker"
	"github.com/seed-7265657e/usher/internal/names"
	"github.com/seed-7265657e/usher/internal/remote"
)

// socketValue is the path of a socket, or an ssh:// URL, given at most once.
type socketValue string

// Set implements pflag.Value.
func (v *socketValue) Set(path string) error {
	switch {
	case path == "":
		return errors.New("an empty path names no socket")
	case *v != "":
		return errors.New("given more than once")
	}
	*v = socketValue(path)
	if remote.IsURL(path) {
		_, err := remote.Parse(path)
		return err
	}
	return nil
}

// String implements pflag.Value.
func (v *socketValue) String() string { return string(*v) }

// Type implements pflag.Value.
func (v *socketValue) Type() string { return "path" }

// durationValue is a duration above zero; zero means that none was given.
type durationValue time.Duration

// Set implements pflag.Value.
func (v *durationValue) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err == nil && d <= 0 {
		err = errors.New("must be above zero, for example 5s")
	}
	*v = durationValue(d)
	return err
}

// String implements pflag.Value.
func (v *durationValue) String() string {
	if *v == 0 {
		return ""
	}
	return time.Duration(*v).String()
}

// Type implements pflag.Value.
func (v *durationValue) Type() string { return "duration" }

// backendsValue collects SERVICE@VERSION=PIPE[,handoff=ENDPOINT].
type backendsValue []broker.StaticBackend

// Set implements pflag.Value.
func (v *backendsValue) Set(text string) error {
	who, where, ok := strings.Cut(text, "=")
	service, version, found := strings.Cut(who, "@")
	if !ok || !found || where == "" {
		return errors.New("want SERVICE@VERSION=PIPE[,handoff=ENDPOINT]")
	}
	pipe, handoff, split := strings.Cut(where, ",handoff=")
	switch {
	case split && handoff == "":
		return errors.New("the handoff endpoint is empty")
	case pipe == "":
		return errors.New("the pipe is empty")
	}
	if err := errors.Join(names.ServiceName(service), names.Version(version)); err != nil {
		return err
	}
	*v = append(*v, broker.StaticBackend{Service: service, Version: version, Pipe: pipe, HandoffEndpoint: handoff})
	return nil
}

// String implements pflag.Value.
func (v *backendsValue) String() string {
	var all []string
	for _, b := range *v {
		all = append(all, fmt.Sprintf("%s@%s=%s", b.Service, b.Version, b.Pipe))
	}
	return strings.Join(all, " ")
}

// Type implements pflag.Value.
func (v *backendsValue) Type() string { return "backend" }
