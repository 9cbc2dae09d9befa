// Package v1 has no code: its tests have usher's broker hand over to backends of the plain v1
// protocol, and a v1 broker to usher's backends, on Windows, or under Wine, as several processes.
package v1
