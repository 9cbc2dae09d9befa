// Package service reads and writes service definitions and applies the policy
// that they state: which versions may be asked for, which broker instance serves
// them, which executables may register, how handoffs are limited.
//
// It is a domain package: the broker and the command line import it; it imports
// wire, names and endpoint only.
//
// Descriptors: files are opened and closed inside one call.
//
// Spec: document "03 broker", sections 6, 7 and 24.
package service
