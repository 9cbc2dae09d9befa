// Package interop has usher talk to the stock v1 implementation: the running-process
// crate, built as rust/ and as its own broker's command line by .ci/interop. Without them
// its tests are skipped. There is nothing to import here.
package interop
