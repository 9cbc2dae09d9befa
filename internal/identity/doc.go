// Package identity says which process and which executable is meant: the boot
// id, the hash of an executable file, the DaemonProcess that describes a backend,
// and the probe (payload protocol 0xB232) by which an endpoint proves who serves
// it.
//
// It is a leaf: it imports blake3, frame and wire, and the broker, the
// SDKs and the command line may import it.
//
// Descriptors: files are opened and closed inside one call. A connection given to
// Fetch stays the caller's, who closes it.
//
// Spec: document "01 wire", section 11, and "03 broker", section 8.
package identity
