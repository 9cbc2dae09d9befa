package sock

import "errors"

// This file and transfer_*.go are how a v1 broker gives a connection to its backend (spec 02
// §5, §11): on Unix beside bytes, on Windows by a number.

// Transferred is a connection that another process has been given by Transfer.
type Transferred struct {
	// Sent is how many bytes have gone; with the first of them goes the connection.
	Sent int
	// Handle is, on Windows, what the connection is called in the other process, which has
	// it and does not know of it; else 0.
	Handle uint64

	receiver *FD // a handle of the other process; nil where none is needed
}

// Close ends the hold on the other process. It may be called again.
func (t *Transferred) Close() {
	if t.receiver != nil {
		t.receiver.Close()
	}
}

var (
	// ErrNotOpened says that the process that was to get a handle can't be opened for that.
	ErrNotOpened = errors.New("the receiving process can't be opened")
	// ErrNotDuplicated says that a handle could not be duplicated into the process.
	ErrNotDuplicated = errors.New("the handle can't be duplicated into the receiving process")
	// ErrNotGiven says that a number is not that of a handle which the process that sent it has
	// duplicated into this one.
	ErrNotGiven = errors.New("not a handle that was given to this process")
)
