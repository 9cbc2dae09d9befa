//go:build unix && !openbsd && !netbsd

package endpoint

// tellsBinder is false: whoever connects is told who called listen.
const tellsBinder = false
