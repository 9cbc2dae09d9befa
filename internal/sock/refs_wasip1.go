package sock

import "syscall"

// TooManyRefs is what this system has of the kind: nothing is in flight on it.
const TooManyRefs = syscall.EMFILE
