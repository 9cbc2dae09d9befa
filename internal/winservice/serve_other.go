//go:build !windows

package winservice

import "context"

// Creation is "": this system has no such manager.
func Creation(string, []string) string { return "" }

// Managed is false: this system has no such manager.
func Managed() bool { return false }

// Serve is serve: this system has no such manager.
func Serve(ctx context.Context, serve func(context.Context) error) error { return serve(ctx) }
