package errno

import "syscall"

// ETOOMANYREFS is what this system has of the kind: nothing is in flight on it.
const ETOOMANYREFS = syscall.EMFILE
