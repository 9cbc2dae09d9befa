package remote

import (
	"slices"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, test := range []struct{ url, pipe, want string }{
		{"ssh://h", "", "h|usher connect --raw"},
		{"ssh://h/", "", "h|usher connect --raw"},
		{"ssh://u@h:2222", "", "-p|2222|-l|u|--|h|usher connect --raw"},
		{"ssh://h/run/b.sock", "", "h|usher connect --raw --socket /run/b.sock"},
		{"ssh://h?usher=/opt/my%20bin/usher", "", "h|'/opt/my bin/usher' connect --raw"},
		{"ssh://[fe80::1]/b", "/run/p", "fe80::1|usher connect --raw --socket /b -- /run/p"},
		{"ssh://h", "/it's $HOME", `h|usher connect --raw -- '/it'\''s $HOME'`},
		{"ssh://h", "~/p", "h|usher connect --raw -- '~/p'"},
	} {
		h, err := Parse(test.url)
		if err != nil {
			t.Errorf("%s: %v", test.url, err)
			continue
		}
		if got := strings.Join(h.command(test.pipe), "|"); !strings.HasSuffix(got, "|"+test.want) || !slices.Contains(h.command(test.pipe), "--") {
			t.Errorf("%s: %q, want %q", test.url, got, test.want)
		}
	}
	for _, url := range []string{
		"ssh://", "ssh:///b", "ssh://-x", "ssh://-x@h", "ssh://@h", "ssh://u:secret@h", "ssh://h:port", "ssh://h?usher=",
		"ssh://h?usher=a&usher=b", "ssh://h?else=1", "ssh://h#f", "ssh://h/%zz",
	} {
		if h, err := Parse(url); err == nil || !strings.Contains(err.Error(), "want ssh://") {
			t.Errorf("%s: %+v, %v", url, h, err)
		}
	}
	if IsURL("/run/b") || IsURL("ssh") || !IsURL("ssh://h") {
		t.Error("a path and a URL are confused")
	}
}

func TestTail(t *testing.T) {
	var said tail
	_, _ = said.Write([]byte("usher: one\r\n\n  two"))
	if got := said.text(); got != "one; two" {
		t.Errorf("text is %q", got)
	}
	_, _ = said.Write([]byte(strings.Repeat("x", 2*maxSaid)))
	_, _ = said.Write([]byte("\nlast"))
	if got := said.text(); !strings.HasSuffix(got, "xx; last") || len(said.kept) != maxSaid {
		t.Errorf("kept %d bytes, text ends with %q", len(said.kept), got[len(got)-10:])
	}
}

func TestErrorSaysTheSide(t *testing.T) {
	for _, test := range []struct {
		err  Error
		want string
	}{
		{Error{"h", true, 255, "no route"}, "ssh to h failed: no route"},
		{Error{"h", true, -1, ""}, "ssh to h was ended by a signal: it said nothing"},
		{Error{"h", false, 127, "not found"}, "no usher can be run on h (exit code 127): not found; install it there"},
		{Error{"h", false, 2, "unknown flag"}, "usher on h failed (exit code 2): unknown flag"},
	} {
		if got := test.err.Error(); !strings.HasPrefix(got, test.want) {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}
