// Package languages runs the clients and backends of examples/python, examples/c and
// examples/node as processes of their own, with each other and with usher's own, and
// freezes and kills the backends between any two steps, as test/faults does with the Go
// ones. What ran is what the backends wrote down, one line a request, before they
// answered. There is nothing to import here.
package languages
