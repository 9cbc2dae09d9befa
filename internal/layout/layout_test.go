package layout_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/seed-7265657e/usher"

// pkg is what `go list` says of one package.
type pkg struct {
	ImportPath     string
	Name           string
	Dir            string
	Imports        []string
	Deps           []string
	GoFiles        []string
	IgnoredGoFiles []string // for other systems
	Module         *struct{ Path string }
}

// name is the path within the module.
func (p pkg) name() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/") }

// sources are the package's files, those for other systems included, without
// its tests.
func (p pkg) sources() (files []string) {
	for _, f := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
		if !strings.HasSuffix(f, "_test.go") {
			files = append(files, f)
		}
	}
	return files
}

// all lists every package that the module needs, by import path.
var all = sync.OnceValues(func() (map[string]pkg, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Name,Dir,Imports,Deps,GoFiles,IgnoredGoFiles,Module", module+"/...")
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	packages := make(map[string]pkg)
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		switch err := d.Decode(&p); {
		case errors.Is(err, io.EOF):
			return packages, nil
		case err != nil:
			return nil, err
		}
		packages[p.ImportPath] = p
	}
})

func packages(t *testing.T) map[string]pkg {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("no go command")
	}
	packages, err := all()
	if err != nil {
		t.Fatal(err)
	}
	return packages
}

// own are the module's packages.
func own(t *testing.T) (packagesOfOurs []pkg) {
	for path, p := range packages(t) {
		if path == module || strings.HasPrefix(path, module+"/") {
			packagesOfOurs = append(packagesOfOurs, p)
		}
	}
	return packagesOfOurs
}

// The layers, from below. A package imports from layers below its own; leaves
// may import leaves.
const (
	leaf = iota
	domain
	carrier // what carries what the domain decides
	top     // what is exported and joins the others
	tool    // package usher, which joins broker, backend and client
	program
)

var layers = map[string]int{
	"internal/wire": leaf, "internal/blake3": leaf, "internal/filehash": leaf, "internal/frame": leaf, "internal/names": leaf, "internal/wait": leaf,
	"internal/identity": leaf, "internal/endpoint": leaf, "internal/peer": leaf,
	"internal/errno": leaf, "internal/sock": leaf, "internal/sock/rawsys": leaf,
	"internal/claim": leaf, "internal/failpoint": leaf,
	"internal/loop": leaf, "internal/stamp": leaf, "internal/watch": leaf,
	"internal/launch": leaf, "internal/remote": leaf, "internal/splice": leaf, "internal/logfile": leaf, "internal/usage": leaf, "internal/loglimit": leaf, "internal/event": leaf, "internal/eventlog": leaf, "internal/window": leaf, "internal/systemd": leaf, "internal/winservice": leaf,

	"handoff": domain, "internal/hello": domain, "internal/service": domain,
	"internal/registry": domain, "internal/admin": domain,

	"internal/transport": carrier,

	"broker": top, "backend": top, "client": top,
	"internal/adminclient": top,

	"": tool,
}

// programs are commands, their parts, examples and tests: above everything.
var programs = []string{"cmd/", "internal/cli", "internal/demo", "internal/bench", "internal/world", "internal/layout", "examples", "bench", "test"}

func layerOf(t *testing.T, name string) int {
	t.Helper()
	if layer, ok := layers[name]; ok {
		return layer
	}
	for _, p := range programs {
		if strings.HasPrefix(name, p) {
			return program
		}
	}
	t.Errorf("package %q has no layer: give it one", name)
	return program
}

const testHelpers = "internal/testutil"

// testOnly are imported by tests and by each other: helpers, and the generated
// messages, which are the referee of package wire.
var testOnly = []string{testHelpers, "internal/brokerpb", "internal/usherpb", "test/windows/fixture"}

// TestImportsPointDownward: and domain packages don't import each other.
func TestImportsPointDownward(t *testing.T) {
	for _, p := range own(t) {
		if slices.Contains(testOnly, p.name()) {
			continue
		}
		from := layerOf(t, p.name())
		for _, path := range p.Imports {
			name, ours := strings.CutPrefix(path, module+"/")
			if !ours {
				continue
			}
			if slices.Contains(testOnly, name) {
				t.Errorf("%s ships, and imports %s", p.name(), name)
				continue
			}
			to := layerOf(t, name)
			if to > from || to == from && from != leaf && from != program {
				t.Errorf("%s imports %s: not below it", p.name(), name)
			}
		}
	}
}

// published are the packages that other modules import.
var published = []string{"", "broker", "backend", "client", "handoff"}

// TestNoPackageForTestsAlone: what is no program, not published and needed by neither
// is code that only tests call.
func TestNoPackageForTestsAlone(t *testing.T) {
	shipped := make(map[string]bool)
	for _, p := range own(t) {
		if p.Name == "main" || slices.Contains(published, p.name()) {
			shipped[p.ImportPath] = true
			for _, path := range p.Deps {
				shipped[path] = true
			}
		}
	}
	for _, p := range own(t) {
		empty := true // but for its comment: a place of tests
		for _, file := range p.sources() {
			empty = empty && len(parse(t, file, read(t, filepath.Join(p.Dir, file))).Decls) == 0
		}
		if !empty && !shipped[p.ImportPath] && !slices.Contains(testOnly, p.name()) {
			t.Errorf("only tests import %s", p.name())
		}
	}
}

// sdks may import leaves, and of the domain the pure package hello.
var sdks = []string{"backend", "client"}

func TestSDKsImportLeaves(t *testing.T) {
	for _, sdk := range sdks {
		for _, path := range packages(t)[module+"/"+sdk].Deps {
			name, ours := strings.CutPrefix(path, module+"/")
			if ours && name != "internal/hello" && layerOf(t, name) != leaf {
				t.Errorf("%s depends on %s", sdk, name)
			}
		}
	}
}

// ceiling are the modules that a program takes in with an SDK.
var ceiling = []string{
	"golang.org/x/sys", "github.com/gofrs/flock",
}

func TestSDKDependencyCeiling(t *testing.T) {
	packages := packages(t)
	for _, sdk := range sdks {
		p, ok := packages[module+"/"+sdk]
		if !ok {
			t.Fatalf("no package %s", sdk)
		}
		for _, path := range p.Deps {
			m := packages[path].Module
			if m != nil && m.Path != module && !slices.Contains(ceiling, m.Path) {
				t.Errorf("%s depends on %s of module %s", sdk, path, m.Path)
			}
		}
	}
}

// TestOneCodec: nothing that ships links Protocol Buffers' runtime.
func TestOneCodec(t *testing.T) {
	for _, name := range append(sdks, "cmd/usher") {
		for _, path := range packages(t)[module+"/"+name].Deps {
			if strings.HasPrefix(path, "google.golang.org/protobuf") {
				t.Errorf("%s depends on %s", name, path)
			}
		}
	}
}

// TestBinaryLinksNoDrawing: what ships draws nothing; bench/plot does.
func TestBinaryLinksNoDrawing(t *testing.T) {
	for _, path := range packages(t)[module+"/cmd/usher"].Deps {
		if strings.Contains(path, "charts") || strings.Contains(path, "freetype") || strings.HasPrefix(path, "image") {
			t.Errorf("cmd/usher depends on %s", path)
		}
	}
}

// systemDependent may have files for one system alone, as leaves may, and ask which it is.
var systemDependent = []string{
	"handoff",                                                      // the classes of a send's errors, which are its own
	"internal/world", "internal/bench", "bench/peers", testHelpers, // they signal and stop processes
	"test/windows/fixture", // of tests for that system alone
}

var systemSuffix = regexp.MustCompile(`_(linux|darwin|windows|freebsd|netbsd|openbsd|unix|bsd|plan9|wasip1|other|portable)\.go$`)

func TestSystemDependentFiles(t *testing.T) {
	for _, p := range own(t) {
		if layer, ok := layers[p.name()]; ok && layer == leaf || slices.Contains(systemDependent, p.name()) {
			continue
		}
		for _, file := range p.sources() {
			if strings.Contains(read(t, filepath.Join(p.Dir, file)), "runtime.GOOS") {
				t.Errorf("%s/%s asks which system it is on", p.name(), file)
			}
			tagged := strings.Contains(read(t, filepath.Join(p.Dir, file)), "\n//go:build ") ||
				strings.HasPrefix(read(t, filepath.Join(p.Dir, file)), "//go:build ")
			if tagged || systemSuffix.MatchString(file) {
				t.Errorf("%s/%s is for some systems alone", p.name(), file)
			}
		}
	}
}

// TestPackageComments: every package says what lives in it.
func TestPackageComments(t *testing.T) {
	for _, p := range own(t) {
		said := len(p.sources()) == 0
		for _, file := range p.sources() {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.PackageClauseOnly|parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			said = said || hasText(f.Doc)
		}
		if !said {
			t.Errorf("package %s has no comment", p.name())
		}
	}
}

func hasText(doc *ast.CommentGroup) bool { return doc != nil && strings.TrimSpace(doc.Text()) != "" }

// TestBrokerEmbedsNothing: what a struct of the broker may touch shows in its fields. An
// embedded struct of the same package would lend it all that one can do.
func TestBrokerEmbedsNothing(t *testing.T) {
	for _, name := range embedded(brokerFiles(t)) {
		t.Errorf("broker: %s", name)
	}
	broken := parse(t, "broken.go", "package broker\ntype server struct{}\ntype connection struct{ *server }\n")
	if got := embedded([]*ast.File{broken}); !slices.Equal(got, []string{"connection embeds server"}) {
		t.Errorf("of a broken one the check says %q", got)
	}
}

// TestPhasesAreEntered: a connection's phase is changed by enter alone, which knows what
// may follow what.
func TestPhasesAreEntered(t *testing.T) {
	if got := setters(brokerFiles(t)); !slices.Equal(got, []string{"enter"}) {
		t.Errorf("phase is set by %q", got)
	}
	broken := parse(t, "broken.go", "package broker\nfunc skip(c *connection) { c.phase, c.deadline = phaseClosed, never }\n")
	if got := setters([]*ast.File{broken}); !slices.Equal(got, []string{"skip"}) {
		t.Errorf("of a broken one the check says %q", got)
	}
}

func brokerFiles(t *testing.T) (files []*ast.File) {
	paths, err := filepath.Glob(filepath.Join(moduleRoot(t), "broker", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		if !strings.HasSuffix(path, "_test.go") {
			files = append(files, parse(t, path, read(t, path)))
		}
	}
	if len(files) == 0 {
		t.Fatal("no files of the broker")
	}
	return files
}

// setters are the functions that assign to a field phase.
func setters(files []*ast.File) (names []string) {
	for _, f := range files {
		for _, d := range f.Decls {
			function, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(function, func(n ast.Node) bool {
				if assign, ok := n.(*ast.AssignStmt); ok {
					for _, left := range assign.Lhs {
						if field, ok := left.(*ast.SelectorExpr); ok && field.Sel.Name == "phase" {
							names = append(names, function.Name.Name)
						}
					}
				}
				return true
			})
		}
	}
	return names
}

// embedded are the structs that embed another one of their package.
func embedded(files []*ast.File) (found []string) {
	structs := make(map[string]*ast.StructType)
	for _, f := range files {
		ast.Inspect(f, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					structs[spec.Name.Name] = s
				}
			}
			return true
		})
	}
	for name, s := range structs {
		for _, field := range s.Fields.List {
			of := field.Type
			if star, ok := of.(*ast.StarExpr); ok {
				of = star.X
			}
			if id, ok := of.(*ast.Ident); ok && len(field.Names) == 0 && structs[id.Name] != nil {
				found = append(found, name+" embeds "+id.Name)
			}
		}
	}
	slices.Sort(found)
	return found
}

const maxLines = 400

// TestFileLength: a longer file has more than one topic.
func TestFileLength(t *testing.T) {
	for _, p := range own(t) {
		for _, file := range p.sources() {
			text := read(t, filepath.Join(p.Dir, file))
			if n := strings.Count(text, "\n"); n > maxLines && !ast.IsGenerated(parse(t, file, text)) {
				t.Errorf("%s/%s has %d lines, more than %d", p.name(), file, n, maxLines)
			}
		}
	}
}

func parse(t *testing.T, name, text string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// privatePath finds the places of those who write this module: a directory that
// is no part of it, or a home.
var privatePath = regexp.MustCompile(`(^|[\s"'(=` + "`" + `])/(work|home/[a-z]{2,}|root|Users/[A-Za-z]+)/|\.\./shared/`)

// TestNoPrivatePaths: nothing in the tree depends on, or tells of, one machine.
func TestNoPrivatePaths(t *testing.T) {
	root := moduleRoot(t)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != root && strings.HasPrefix(d.Name(), "."):
			if d.Name() == ".github" {
				return nil
			}
			return filepath.SkipDir
		case !d.Type().IsRegular() || filepath.Base(path) == "layout_test.go":
			return nil
		}
		if info, err := d.Info(); err != nil || info.Size() > 4<<20 {
			return err
		}
		text := read(t, path)
		if strings.IndexByte(text, 0) >= 0 {
			return nil // no text
		}
		if found := privatePath.FindString(text); found != "" {
			t.Errorf("%s names %q", strings.TrimPrefix(path, root), strings.TrimSpace(found))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return dir
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
