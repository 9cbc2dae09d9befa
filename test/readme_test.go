package test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestReadmeQuotesTheExamples holds the code that README shows against the
// examples that are built and tested.
func TestReadmeQuotesTheExamples(t *testing.T) {
	readme := read(t, "../README.md")
	var examples string
	for _, name := range []string{"lookup", "hello-backend", "hello-client"} {
		examples += normal(read(t, "../examples/"+name+"/main.go"))
	}
	blocks := strings.Split(readme, "```go\n")[1:]
	if len(blocks) != 4 {
		t.Fatalf("%d Go blocks in README.md, want those of a tool, a backend and a client", len(blocks))
	}
	for _, block := range blocks {
		code, _, _ := strings.Cut(block, "```")
		if !strings.Contains(examples, normal(code)) {
			t.Errorf("README.md shows code that no example has:\n%s", code)
		}
	}
}

// TestReadmeListsThePrograms holds the table of programs in README against the scripts that
// start them: each line is one, with the mode and every program that the line names, and each
// script has a line.
func TestReadmeListsThePrograms(t *testing.T) {
	scripts, err := filepath.Glob("programs/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{"programs/peer.txtar": true} // which is about what a program sees
	definition := regexp.MustCompile("`usher service add .*--mode ([a-z-]+)[^`]* --binary [^ `]*?([a-z.-]+)[ `]")
	before := regexp.MustCompile("[`(](?:[A-Z_]+=(?:'[^']*'|\\w+) )?([a-z-]+(?: connect)?) [^`]*`")
	lines := 0
	for line := range strings.Lines(read(t, "../README.md")) {
		cells := strings.Split(line, " | ")
		if len(cells) != 3 || !definition.MatchString(cells[1]) {
			continue
		}
		lines++
		found := definition.FindStringSubmatch(cells[1])
		want := []string{"--mode " + found[1], found[2]}
		for _, command := range before.FindAllStringSubmatch(cells[2], -1) {
			want = append(want, command[1])
		}
		tested := false
		for _, path := range scripts {
			script := read(t, path)
			if !slices.ContainsFunc(want, func(words string) bool { return !strings.Contains(script, words) }) {
				shown[path], tested = true, true
			}
		}
		if !tested {
			t.Errorf("no script in programs has all of %q, for the line\n%s", want, line)
		}
	}
	if lines < 10 {
		t.Errorf("%d lines", lines)
	}
	for _, path := range scripts {
		if !shown[path] {
			t.Errorf("README.md has no line for %s", path)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// normal drops the indentation of each line.
func normal(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		b.WriteString(strings.TrimLeft(line, "\t"))
	}
	return b.String()
}
