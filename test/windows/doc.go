// Package windows has no code: its tests run usher on Windows, or under Wine, as several
// processes.
package windows
