package layout_test

import (
	"go/ast"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// withNumbers may name descriptors by their numbers in what they export: the socket
// package and its system calls, which own them, and the helpers of tests.
var withNumbers = []string{"internal/sock", "internal/sock/rawsys", testHelpers}

// rawCalls are who may make system calls on a borrowed number, each with what it needs
// them for.
var rawCalls = map[string]string{
	"internal/sock":   "sockets and messages",
	"internal/claim":  "one read that takes a claim, and the mapping of a page",
	"internal/launch": "a number that no descriptor of a child has; handles that a program of Windows inherits",
	"internal/loop":   "epoll, eventfd, timerfd; a pipe where poll(2) is",
	"internal/peer":   "pidfds",
	"internal/stamp":  "stat that tells no scheduler",
	"internal/watch":  "inotify",
}

// TestDescriptorsAreValues: above internal/sock no exported signature or field has a
// descriptor's number, so that whoever holds one holds a value that closes it.
func TestDescriptorsAreValues(t *testing.T) {
	for _, p := range own(t) {
		if slices.Contains(withNumbers, p.name()) {
			continue
		}
		for _, file := range p.sources() {
			f := parse(t, file, read(t, filepath.Join(p.Dir, file)))
			if ast.IsGenerated(f) {
				continue
			}
			for _, what := range numbersIn(f) {
				t.Errorf("%s/%s: %s", p.name(), file, what)
			}
		}
	}
}

// TestDescriptorNumbersAreFound: the rule finds what it forbids, and nothing else.
func TestDescriptorNumbersAreFound(t *testing.T) {
	const source = `package p
func A(fd int) {}
func B() (n int, sock uintptr, err error) { return }
func (c *C) Send(msg []byte, fds ...int) {}
func FD() int { return 0 }
type I interface { Watch(listener int32); Next() int }
type S struct { Descriptor int; Descriptors int; Count int }
var Dup func(pipe int)
func Fine(n, size int, offered int, fields []int) int { return 0 }
func unexported(fd int) {}
func (c *hidden) Send(fd int) {}
type C struct { fd int }
type hidden struct { FD int }
`
	want := []string{"A: fd", "B: sock", "Send: fds", "FD", "I: listener", "S: Descriptor", "Dup: pipe"}
	if got := numbersIn(parse(t, "p.go", source)); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// TestRawCalls: who borrows a number is named here.
func TestRawCalls(t *testing.T) {
	for _, p := range own(t) {
		if slices.Contains(p.Imports, module+"/internal/sock/rawsys") && rawCalls[p.name()] == "" {
			t.Errorf("%s makes raw system calls", p.name())
		}
		if _, may := rawCalls[p.name()]; may || slices.Contains(withNumbers, p.name()) {
			continue
		}
		for _, file := range p.sources() {
			ast.Inspect(parse(t, file, read(t, filepath.Join(p.Dir, file))), func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "sock" && (s.Sel.Name == "Borrow" || s.Sel.Name == "Number" || s.Sel.Name == "Own") {
						t.Errorf("%s/%s uses sock.%s", p.name(), file, s.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

// descriptorName is what a descriptor is called. A word alone, or the last of several.
var descriptorName = regexp.MustCompile(`^(.*[a-z])?([fF]ds?|F[Dd]s?|[dD]escriptors?|[sS]ock(et)?|[cC]onn(ection)?|far|near|[lL]istener|[pP]ipe|[eE]poll|[eE]ventfd|[pP]idfd|[iI]notify)$`)

// numbersIn lists the descriptors that f exports as numbers.
func numbersIn(f *ast.File) (found []string) {
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && exportedReceiver(d) {
				found = append(found, inSignature(d.Name.Name, d.Type)...)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch s := spec.(type) {
				case *ast.TypeSpec:
					if s.Name.IsExported() {
						found = append(found, inType(s.Name.Name, s.Type)...)
					}
				case *ast.ValueSpec:
					for _, name := range s.Names {
						if name.IsExported() && s.Type != nil {
							found = append(found, inType(name.Name, s.Type)...)
						}
					}
				}
			}
		}
	}
	return found
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	of := d.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if generic, ok := of.(*ast.IndexExpr); ok {
		of = generic.X
	}
	name, ok := of.(*ast.Ident)
	return !ok || name.IsExported()
}

// inSignature judges parameters and results by their names, and a result without one
// by the function's.
func inSignature(name string, f *ast.FuncType) (found []string) {
	found = inFields(name, f.Params, false)
	if f.Results == nil {
		return found
	}
	for _, r := range f.Results.List {
		if len(r.Names) == 0 && isDescriptor(name, r.Type) {
			found = append(found, name)
		}
	}
	return append(found, inFields(name, f.Results, false)...)
}

func inType(name string, of ast.Expr) []string {
	switch t := of.(type) {
	case *ast.FuncType:
		return inSignature(name, t)
	case *ast.StructType:
		return inFields(name, t.Fields, true)
	case *ast.InterfaceType:
		var found []string
		for _, m := range t.Methods.List {
			if f, ok := m.Type.(*ast.FuncType); ok && len(m.Names) == 1 && m.Names[0].IsExported() {
				found = append(found, inSignature(name, f)...)
			}
		}
		return found
	}
	return nil
}

func inFields(owner string, fields *ast.FieldList, exportedOnly bool) (found []string) {
	for _, field := range fields.List {
		for _, name := range field.Names {
			switch {
			case exportedOnly && !name.IsExported():
			case isDescriptor(name.Name, field.Type):
				found = append(found, owner+": "+name.Name)
			}
		}
	}
	return found
}

// isDescriptor tells by name and type. One number that is called by a plural counts them.
func isDescriptor(name string, t ast.Expr) bool {
	_, one := t.(*ast.Ident)
	return isNumber(t) && descriptorName.MatchString(name) && !(one && strings.HasSuffix(name, "s"))
}

// isNumber reports whether t holds integers.
func isNumber(t ast.Expr) bool {
	switch t := t.(type) {
	case *ast.Ident:
		return slices.Contains([]string{"int", "int32", "int64", "uint", "uint32", "uint64", "uintptr"}, t.Name)
	case *ast.ArrayType:
		return isNumber(t.Elt)
	case *ast.Ellipsis:
		return isNumber(t.Elt)
	}
	return false
}
