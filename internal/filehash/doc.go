// Package filehash hashes executable files for the broker, and remembers their
// hashes for as long as the files stay the same.
//
// A leaf: it imports nothing of usher. Clients and backends don't import it; its
// library is fast and asks the processor what it can do when a process starts.
//
// Descriptors: files are opened and closed inside one call; that of HashFile is borrowed.
package filehash
