package broker_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-7265657e/usher/client"
)

// TestAlwaysDiesWhenReady: instances that say that they are ready, and end, are tries like
// any others: three in half a minute, and then whoever asks is told why.
func TestAlwaysDiesWhenReady(t *testing.T) {
	s := starting(t, "", "")
	mark := filepath.Join(s.dir, "mark")
	s.write(demo+".toml", fmt.Sprintf("min_version = \"1.0.0\"\nbinary_path = %q\n[start]\n[start.env]\nUSHER_TEST_HELPER = \"started\"\n%s = %q\n", ownBinary(t), envMode, "dies ready "+mark))
	c := s.dial()
	send(t, c, helloFor(t, usherClient, nil))
	readReply(t, c)
	if answer, err := s.who(demoVersion); err == nil || !strings.Contains(err.Error(), "it was started 3 times in 30s: the daemon of "+demo) {
		t.Errorf("got %q, %v", answer, err)
	}
	if begun, err := os.ReadFile(mark); strings.Count(string(begun), "\n") != 3 || err != nil {
		t.Errorf("started as %q, %v", begun, err)
	}
}

// TestLetGoIsNoFailure: instances that are stopped do not use up the tries, also where no
// connection was handed to them.
func TestLetGoIsNoFailure(t *testing.T) {
	s := starting(t, "", "")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for n := range 5 {
		c, err := client.DialWith(ctx, client.Options{Service: demo, Version: demoVersion, Broker: s.Socket(), NoHandoff: true}, []byte("who\n"))
		if err != nil {
			t.Fatalf("instance %d: %v", n, err)
		}
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Errorf("instance %d: %v", n, err)
		}
		_ = c.Close()
		if o := s.control(verbStop, "", 0); o.exit != 0 {
			t.Fatalf("got %+v", o)
		}
	}
}
