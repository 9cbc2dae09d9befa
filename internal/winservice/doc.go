// Package winservice runs a server under the service manager of Windows: it says that it runs
// and is stopped by it. Elsewhere, and on a console, a server runs as it is.
//
// A leaf: it imports nothing of usher.
package winservice
