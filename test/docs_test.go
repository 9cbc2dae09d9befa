package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestErrorsQuotesRealTexts holds docs/errors.md against the sources: in every
// table row, each quoted text of several words outside the last column, which
// says what to do, occurs in a string of the non-test Go code. "…" stands for
// whatever the code fills in.
func TestErrorsQuotesRealTexts(t *testing.T) {
	sources := stringsOfSources(t)
	texts := 0
	for line := range strings.Lines(read(t, "../docs/errors.md")) {
		cells := strings.Split(strings.Trim(line, "| \n"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) < 2 {
			continue
		}
		for _, quoted := range backticked.FindAllStringSubmatch(strings.Join(cells[:len(cells)-1], "|"), -1) {
			text := strings.Trim(quoted[1], "… ")
			if !strings.Contains(text, " ") || strings.HasPrefix(text, "usher ") {
				continue
			}
			texts++
			if !strings.Contains(sources, text) {
				t.Errorf("docs/errors.md quotes %q, which no source says", quoted[1])
			}
		}
	}
	if texts == 0 {
		t.Error("no quoted text found in the tables of docs/errors.md")
	}
}

// TestErrorsNamesExist holds the names of package client in docs/errors.md
// against the package.
func TestErrorsNamesExist(t *testing.T) {
	declared := make(map[string]bool)
	files, err := filepath.Glob("../client/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		ast.Inspect(parse(t, path), func(n ast.Node) bool {
			switch d := n.(type) {
			case *ast.FuncDecl:
				declared[d.Name.Name] = d.Recv == nil || declared[d.Name.Name]
				return false
			case *ast.TypeSpec:
				declared[d.Name.Name] = true
			case *ast.ValueSpec:
				for _, name := range d.Names {
					declared[name.Name] = true
				}
			}
			return true
		})
	}
	names := clientName.FindAllStringSubmatch(read(t, "../docs/errors.md"), -1)
	if len(names) == 0 {
		t.Error("docs/errors.md names nothing of package client")
	}
	for _, name := range names {
		if !declared[name[1]] {
			t.Errorf("docs/errors.md names client.%s, which does not exist", name[1])
		}
	}
}

var (
	backticked = regexp.MustCompile("`([^`]+)`")
	clientName = regexp.MustCompile("`\\*?client\\.(\\w+)")
	// filledIn is one or more verbs of package fmt in a row.
	filledIn = regexp.MustCompile(`(%[-+# 0-9.\[\]]*[a-zA-Z])+`)
)

// stringsOfSources returns every string in the non-test Go code, one per line,
// with "…" for what fmt fills in.
func stringsOfSources(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		ast.Inspect(parse(t, path), func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					b.WriteString(filledIn.ReplaceAllString(text, "…") + "\n")
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func parse(t *testing.T, path string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
