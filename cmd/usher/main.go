// Command usher is a local connection broker and the tools around it.
package main

import (
	"os"

	"github.com/seed-7265657e/usher/internal/cli"
)

func main() { os.Exit(cli.Main()) }
