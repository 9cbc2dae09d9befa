package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
)

// index is where the names of the working directory's Go code are declared. It is read in
// the background: a host does not wait long for a server to come up.
type index struct {
	ready  chan struct{} // closed when it has been read
	places map[string][]place
}

type place struct {
	file *string
	line int
	kind ast.ObjKind
}

func newIndex() *index {
	ix := &index{ready: make(chan struct{}), places: make(map[string][]place)}
	go func() {
		defer close(ix.ready)
		_ = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && d.Type().IsRegular() {
				ix.read(path)
			}
			return nil // what can't be read declares nothing
		})
	}()
	return ix
}

func (ix *index) read(path string) {
	set := token.NewFileSet()
	file, _ := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
	if file == nil {
		return
	}
	add := func(name *ast.Ident, kind ast.ObjKind) {
		ix.places[name.Name] = append(ix.places[name.Name], place{&path, set.Position(name.Pos()).Line, kind})
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			add(d.Name, ast.Fun)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					add(s.Name, ast.Typ)
				case *ast.ValueSpec:
					for _, name := range s.Names {
						add(name, ast.Var)
					}
				}
			}
		}
	}
}

func (ix *index) find(name string) []string {
	<-ix.ready
	found := []string{} // in JSON a list, also where it is empty
	for _, p := range ix.places[name] {
		found = append(found, fmt.Sprintf("%s:%d: %v", *p.file, p.line, p.kind))
	}
	return found
}
