// Package start holds the tests of what is started on Windows: instances of services and
// one-binary tools, with a broker and daemons that are processes of their own.
package start
