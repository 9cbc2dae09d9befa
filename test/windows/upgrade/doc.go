// Package upgrade has no code: its tests replace brokers on Windows, or under Wine, as several
// processes.
package upgrade
