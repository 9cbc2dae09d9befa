package world

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// hail is the first line of a process in a role.
type hail struct {
	Ready bool `json:"ready"`
}

// Converse is a role's side of the conversation: it says that the process is ready,
// and answers each question with one line until in ends.
func Converse[Q, A any](in io.Reader, out io.Writer, answer func(Q) (A, error)) error {
	enc := json.NewEncoder(out)
	if err := enc.Encode(hail{true}); err != nil {
		return err
	}
	for dec := json.NewDecoder(in); ; {
		var q Q
		if err := dec.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("question: %w", err)
		}
		a, err := answer(q)
		if err != nil {
			return err
		}
		if err := enc.Encode(a); err != nil {
			return err
		}
	}
}
