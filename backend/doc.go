// Package backend is the SDK for programs that serve behind usher: Listen
// returns a net.Listener whose connections come from the broker, handed over in
// the kernel, or from clients that dialled the backend's own pipe. Neither an
// http.Server nor a gRPC server can tell the difference.
//
//	ln, err := backend.Listen(ctx, backend.Options{Service: "notes", Version: "1.2.0"})
//	…
//	http.Serve(ln, handler)
//
// A connection takes no descriptors from the client where the kernel can refuse them
// (Linux 6.16): an application that wants some sets SO_PASSRIGHTS on it.
//
// Of usher it imports leaf packages alone, and no CLI, metrics or tracing
// module comes with it. A Listener owns its pipe, its channel and every
// connection nobody has accepted; an accepted connection is the caller's.
package backend
