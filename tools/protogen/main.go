// Command protogen turns the .proto files of this repository into Go, with
// nothing but the Go toolchain: protocompile parses them and protoc-gen-go, at
// the version that go.mod of this module pins, runs as a plugin.
//
// Run it from the root of the repository:
//
//	go run -C tools ./protogen          write the generated files
//	go run -C tools ./protogen -check   compare them and fail when one is stale
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const (
	protoDir = "proto"
	module   = "github.com/seed-7265657e/usher"
	howTo    = "go run -C tools ./protogen"
)

func main() {
	check := flag.Bool("check", false, "compare the committed files instead of writing them")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	tools, err := toolsDir()
	if err != nil {
		return err
	}
	root := filepath.Dir(tools)
	sources, err := protoFiles(filepath.Join(root, protoDir))
	if err != nil {
		return err
	}
	request, err := compile(filepath.Join(root, protoDir), sources)
	if err != nil {
		return err
	}
	response, err := runPlugin(tools, request)
	if err != nil {
		return err
	}
	if check {
		return compare(root, response.GetFile())
	}
	return write(root, response.GetFile())
}

// toolsDir returns the directory of the tools module, which the go command
// knows because this program is built from it.
func toolsDir() (string, error) {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	dir := filepath.Dir(strings.TrimSpace(string(out)))
	if filepath.Base(dir) == "tools" {
		return dir, nil
	}
	tools := filepath.Join(dir, "tools")
	if _, err := os.Stat(filepath.Join(tools, "go.mod")); err != nil {
		return "", fmt.Errorf("run this inside the usher repository: %w", err)
	}
	return tools, nil
}

// protoFiles lists the sources below dir as slash paths relative to it, sorted.
func protoFiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".proto" {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files = append(files, filepath.ToSlash(rel))
		return err
	})
	slices.Sort(files)
	return files, err
}

// compile parses the sources with their comments into a plugin request.
func compile(dir string, sources []string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{dir}}),
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	compiled, err := compiler.Compile(context.Background(), sources...)
	if err != nil {
		return nil, err
	}
	request := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: sources,
		Parameter:      proto.String("module=" + module),
	}
	var descriptors []*descriptorpb.FileDescriptorProto
	for _, file := range compiled {
		descriptors = append(descriptors, protodesc.ToFileDescriptorProto(file))
	}
	request.ProtoFile = descriptors
	return request, nil
}

// runPlugin hands the request to protoc-gen-go over its standard input.
func runPlugin(tools string, request *pluginpb.CodeGeneratorRequest) (*pluginpb.CodeGeneratorResponse, error) {
	input, err := proto.Marshal(request)
	if err != nil {
		return nil, err
	}
	var output bytes.Buffer
	plugin := exec.Command("go", "tool", "protoc-gen-go")
	plugin.Dir = tools
	plugin.Stdin = bytes.NewReader(input)
	plugin.Stdout = &output
	plugin.Stderr = os.Stderr
	if err := plugin.Run(); err != nil {
		return nil, fmt.Errorf("protoc-gen-go: %w", err)
	}
	response := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(output.Bytes(), response); err != nil {
		return nil, fmt.Errorf("protoc-gen-go answered with something else: %w", err)
	}
	if response.Error != nil {
		return nil, fmt.Errorf("protoc-gen-go: %s", response.GetError())
	}
	return response, nil
}

func write(root string, files []*pluginpb.CodeGeneratorResponse_File) error {
	for _, file := range files {
		path := filepath.Join(root, filepath.FromSlash(file.GetName()))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(file.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// compare reports every committed file that differs from what it should be.
func compare(root string, files []*pluginpb.CodeGeneratorResponse_File) error {
	var stale []error
	for _, file := range files {
		committed, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file.GetName())))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if string(committed) != file.GetContent() {
			stale = append(stale, fmt.Errorf("%s is stale; regenerate with: %s", file.GetName(), howTo))
		}
	}
	return errors.Join(stale...)
}
