// Package test holds scenarios with real processes: one script per scenario in
// scripts/, in the language of testscript. The test binary is usher and the
// programs of programs_test.go by turns; beside it only a shell is needed. There
// is nothing to import here.
package test
