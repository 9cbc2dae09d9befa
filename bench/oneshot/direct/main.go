// Direct is a one-shot client without usher: it dials the backend's own socket,
// prints the answer and ends. `usher bench process` measures bench/oneshot/sdk
// against it.
package main

import (
	"io"
	"log"
	"net"
	"os"
)

var request = []byte("what a short program asks of its daemon, in sixty-four bytes....")

func main() {
	conn, err := net.Dial("unix", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	if _, err := conn.Write(request); err != nil {
		log.Fatal(err)
	}
	answer := make([]byte, len(request))
	if _, err := io.ReadFull(conn, answer); err != nil {
		log.Fatal(err)
	}
	_ = conn.Close()
	if _, err := os.Stdout.Write(answer); err != nil {
		log.Fatal(err)
	}
}
