//go:build !unix

package logfile

// noFollow is nothing that is known here.
const noFollow = 0
