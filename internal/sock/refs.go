//go:build !wasip1

package sock

import "syscall"

// TooManyRefs is the error of a send while too many descriptors are in flight (spec 02 §15).
const TooManyRefs = syscall.ETOOMANYREFS
