// Sdk is a one-shot client: it asks a service through usher's broker, prints the
// answer and ends. `usher bench process` measures it against bench/oneshot/direct.
package main

import (
	"context"
	"io"
	"log"
	"os"

	"github.com/seed-7265657e/usher/client"
)

var request = []byte("what a short program asks of its daemon, in sixty-four bytes....")

func main() {
	opts := client.Options{Service: "bench", Version: "1.0.0", Broker: os.Args[1]}
	conn, err := client.DialWith(context.Background(), opts, request)
	if err != nil {
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
