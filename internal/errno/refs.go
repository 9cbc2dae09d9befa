//go:build !wasip1 && !plan9

package errno

import "syscall"

// ETOOMANYREFS is the error of a send while too many descriptors are in flight (spec 02 §15).
const ETOOMANYREFS = syscall.ETOOMANYREFS
