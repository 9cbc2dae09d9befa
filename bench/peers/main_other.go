//go:build !linux

// Command peers needs Linux: it starts what is installed there.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "peers: needs Linux")
	os.Exit(1)
}
