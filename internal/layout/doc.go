// Package layout has no code: its tests hold the module to the rules of its
// layout, so that they outlive those who made them.
package layout
