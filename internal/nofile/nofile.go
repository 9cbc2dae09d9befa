// Package nofile tells how many descriptors this process may have.
//
// A leaf: it imports nothing of usher, and no descriptor passes through it.
package nofile
