//go:build !linux

// Package rawsys is for Linux alone; on other systems nothing uses it.
package rawsys
