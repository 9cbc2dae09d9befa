// Package brokerpb holds the generated Go for the v1 broker wire: envelope,
// Hello exchange, handoff, admin, service definitions and manifests. The
// sources are in proto/running_process/broker/v1; edit those and run go
// generate here. Every package may import it; it imports nothing of usher and
// holds no descriptors.
package brokerpb

//go:generate go run -C ../../tools ./protogen
