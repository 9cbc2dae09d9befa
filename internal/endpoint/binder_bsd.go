//go:build openbsd || netbsd

package endpoint

// tellsBinder: whoever connects is told who called bind, and not who called listen.
const tellsBinder = true
