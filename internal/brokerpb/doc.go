// Package brokerpb holds the generated Go for the v1 broker wire: envelope,
// Hello exchange, handoff, admin, service definitions and manifests. The
// sources are in proto/running_process/broker/v1; edit those and run go
// generate here. It is the referee of package wire: tests alone import it.
package brokerpb

//go:generate go run -C ../../tools ./protogen
