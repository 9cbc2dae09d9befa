// Hello-client is the smallest client: it asks hello-backend through usher.
package main

import (
	"io"
	"log"
	"net/http"
	"os"

	"github.com/seed-7265657e/usher/client"
)

func main() {
	dial := client.HTTP(client.Options{Service: "hello", Version: "1.0.0"})
	resp, err := (&http.Client{Transport: &http.Transport{DialContext: dial}}).Get("http://hello/")
	if err != nil {
		log.Fatal(err)
	}
	_, _ = io.Copy(os.Stdout, resp.Body)
}
