// Hello-backend is the smallest backend: it answers HTTP requests behind usher.
package main

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/seed-7265657e/usher/backend"
)

func main() {
	ln, err := backend.Listen(context.Background(), backend.Options{Service: "hello", Version: "1.0.0"})
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "hello from process", os.Getpid())
	})))
}
