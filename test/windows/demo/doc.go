// Package demo has no code: its test plays usher demo on Windows, or under Wine.
package demo
