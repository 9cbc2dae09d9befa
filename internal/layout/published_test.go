package layout_test

import (
	"go/ast"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestPublishedStandsAlone: who imports what is published can write down every type in it.
func TestPublishedStandsAlone(t *testing.T) {
	for _, p := range own(t) {
		if !slices.Contains(published, p.name()) {
			continue
		}
		for _, file := range p.sources() {
			for _, what := range internalsIn(parse(t, file, read(t, filepath.Join(p.Dir, file)))) {
				t.Errorf("%s/%s exports %s", p.name(), file, what)
			}
		}
	}
}

// TestInternalsAreFound: the rule finds what it forbids, and nothing else.
func TestInternalsAreFound(t *testing.T) {
	const source = `package p
import ("net"; "` + module + `/internal/sock"; "` + module + `/internal/wire")
func A(l sock.Lender) net.Conn { return nil }
type B struct { Kept *wire.Hello; own *sock.FD }
func (b B) C() (map[string]sock.FD, error) { return nil, nil }
func (b B) hidden(f *sock.FD) { wire.Marshal() }
type hidden struct { F *sock.FD }
const D = E(wire.Kind)
type F = sock.FD
`
	want := []string{"sock.Lender", "wire.Hello", "sock.FD"}
	if got := internalsIn(parse(t, "p.go", source)); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// internalsIn lists the types of internal packages in what f exports. It takes from f what
// is not exported.
func internalsIn(f *ast.File) (found []string) {
	internal := make(map[string]bool)
	for _, i := range f.Imports {
		if path, _ := strconv.Unquote(i.Path.Value); strings.HasPrefix(path, module+"/internal/") {
			internal[path[strings.LastIndexByte(path, '/')+1:]] = true
		}
	}
	ast.FileExports(f)
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSpec:
			return !n.Assign.IsValid() // a name of its own for it
		case *ast.FuncDecl:
			n.Body = nil
		case *ast.ValueSpec:
			n.Values = nil
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && internal[x.Name] {
				found = append(found, x.Name+"."+n.Sel.Name)
			}
		}
		return true
	})
	return found
}
