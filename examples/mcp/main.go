// Mcp is a server of the Model Context Protocol that knows where in a directory's Go code a
// name is declared:
//
//	mcp [-plain] [DIR]
//
// Its hosts start it once a session, as they start every server of that protocol, and
// speak with it by standard input and output. All sessions of one directory share one
// daemon, which has the index in memory; README.md says what that saves. With -plain each
// process has its own, as without usher.
package main

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/seed-7265657e/usher"
)

const name, version = "mcp-declarations", "1.0.0"

var tool = usher.Tool{Name: name, Version: version, Serve: serve}

// serve is the daemon: one server for the sessions of all hosts.
func serve(ctx context.Context, ln net.Listener) error {
	server := newServer()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() { // until the session or ctx ends
			defer conn.Close()
			_ = server.Run(ctx, &mcp.IOTransport{Reader: conn, Writer: conn})
		}()
	}
}

func main() {
	tool.Main() // does not return in a process that was started as broker or daemon
	plain := flag.Bool("plain", false, "serve this session alone, in this process")
	flag.Parse()
	if err := session(context.Background(), flag.Arg(0), *plain); err != nil {
		fmt.Fprintln(os.Stderr, "mcp:", err)
		os.Exit(1)
	}
}

func session(ctx context.Context, dir string, plain bool) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil { // one directory, one daemon
		return err
	}
	if !plain {
		tool.Dir = dir
		return tool.Stdio(ctx)
	}
	if err := os.Chdir(dir); err != nil {
		return err
	}
	return newServer().Run(ctx, &mcp.StdioTransport{})
}

// newServer makes a server of the working directory, which begins to read it.
func newServer() *mcp.Server {
	declared := newIndex()
	server := mcp.NewServer(&mcp.Implementation{Name: name, Version: version}, nil)
	mcp.AddTool(server, &mcp.Tool{
		Name:        "find_declarations",
		Description: "Where in this directory's Go code a name is declared.",
	}, func(_ context.Context, _ *mcp.CallToolRequest, q question) (*mcp.CallToolResult, answer, error) {
		return nil, answer{Places: declared.find(q.Name)}, nil
	})
	return server
}

type question struct {
	Name string `json:"name" jsonschema:"the name, without its package"`
}

type answer struct {
	Places []string `json:"places" jsonschema:"PATH:LINE: KIND, each"`
}
