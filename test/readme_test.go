package test

import (
	"os"
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
