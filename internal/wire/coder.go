package wire

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// coder writes or reads one message. Its methods take a field's number and its
// place in the message. Writing, they append the field. Reading, they take it from
// the input for as long as it is the next one there.
type coder struct {
	encoding bool
	repair   bool   // text that is not UTF-8 is written repaired
	out      []byte // what is written
	room     []byte // kept from message to message
	input
	err error
}

func (c *coder) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.key, c.rest = 0, nil
}

// read reads a message from b. Fields in ascending order, which is how everyone
// writes them, take one pass over the message's fields. A pass that takes nothing
// has met a field that the message doesn't have.
func (c *coder) read(b []byte, m Message) {
	outer := c.input
	c.input = input{rest: b}
	c.next()
	for c.key != 0 {
		left := len(c.rest)
		m.fields(c)
		if c.key != 0 && len(c.rest) == left {
			c.next()
		}
	}
	c.input = outer
	if c.err != nil {
		c.key, c.rest = 0, nil
	}
}

// next takes the next field from the input.
func (c *coder) next() {
	if !c.advance() {
		c.fail(ErrMalformed)
	}
}

func (c *coder) at(number uint64, kind uint64) bool { return c.key == number<<3|kind }

func (c *coder) tag(number uint64, kind uint64) {
	c.out = binary.AppendUvarint(c.out, number<<3|kind)
}

// scalar is a field of a number or an enum. A negative enum takes ten bytes.
func scalar[T ~int32 | ~uint32 | ~uint64](c *coder, number uint64, v *T) {
	if c.encoding {
		if *v != 0 {
			c.tag(number, varint)
			c.out = binary.AppendUvarint(c.out, uint64(*v))
		}
		return
	}
	for c.at(number, varint) {
		*v = T(c.number)
		c.next()
	}
}

// optional is a number that is told from its absence: nil is absent.
func (c *coder) optional(number uint64, v **uint32) {
	if c.encoding {
		if *v != nil {
			c.tag(number, varint)
			c.out = binary.AppendUvarint(c.out, uint64(**v))
		}
		return
	}
	for c.at(number, varint) {
		n := uint32(c.number)
		*v = &n
		c.next()
	}
}

func (c *coder) bool(number uint64, v *bool) {
	if c.encoding {
		if *v {
			c.tag(number, varint)
			c.out = append(c.out, 1)
		}
		return
	}
	for c.at(number, varint) {
		*v = c.number != 0
		c.next()
	}
}

// bytes reads an empty field as nil.
func (c *coder) bytes(number uint64, v *[]byte) {
	if c.encoding {
		if len(*v) > 0 {
			c.tag(number, delimited)
			c.out = append(binary.AppendUvarint(c.out, uint64(len(*v))), *v...)
		}
		return
	}
	for c.at(number, delimited) {
		*v = append([]byte(nil), c.value...)
		c.next()
	}
}

func (c *coder) text(number uint64, v *string) {
	if c.encoding {
		if *v != "" {
			c.writeText(number, *v)
		}
		return
	}
	for c.at(number, delimited) {
		*v = c.readText()
		c.next()
	}
}

func (c *coder) texts(number uint64, v *[]string) {
	if c.encoding {
		for _, s := range *v {
			c.writeText(number, s)
		}
		return
	}
	for c.at(number, delimited) {
		*v = append(*v, c.readText())
		c.next()
	}
}

func (c *coder) writeText(number uint64, s string) {
	if !utf8.ValidString(s) {
		if !c.repair {
			c.fail(ErrText)
		}
		s = validText(s)
	}
	c.tag(number, delimited)
	c.out = append(binary.AppendUvarint(c.out, uint64(len(s))), s...)
}

func (c *coder) readText() string {
	if !utf8.Valid(c.value) {
		c.fail(ErrText)
	}
	return string(c.value)
}

func validText(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

// message is a field that holds a message; nil is absent. It reports whether one
// was read.
func message[T any, M interface {
	*T
	Message
}](c *coder, number uint64, v **T) (read bool) {
	if c.encoding {
		if *v != nil {
			c.writeNested(number, M(*v))
		}
		return false
	}
	for c.at(number, delimited) {
		if *v == nil {
			*v = new(T)
		}
		c.read(c.value, M(*v))
		c.next()
		read = true
	}
	return read
}

// writeNested writes what m is before it knows how long that is.
func (c *coder) writeNested(number uint64, m Message) {
	c.tag(number, delimited)
	start := len(c.out)
	m.fields(c)
	var length [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(length[:], uint64(len(c.out)-start))
	c.out = slices.Insert(c.out, start, length[:n]...)
}

// textMap is a map from text to text.
func (c *coder) textMap(number uint64, v *map[string]string) {
	if c.encoding {
		entries := *v
		if c.repair {
			entries = make(map[string]string, len(*v))
			for key, value := range *v {
				entries[validText(key)] = value
			}
		}
		for _, key := range slices.Sorted(maps.Keys(entries)) {
			c.writeNested(number, &entry{key, entries[key]})
		}
		return
	}
	for c.at(number, delimited) {
		var e entry
		c.read(c.value, &e)
		if *v == nil {
			*v = make(map[string]string)
		}
		(*v)[e.key] = e.value
		c.next()
	}
}

// entry is one entry of a map. Both fields are written, also when they are empty.
type entry struct{ key, value string }

// Name is of no message that stands alone.
func (*entry) Name() string { return "entry" }

func (e *entry) fields(c *coder) {
	if c.encoding {
		c.writeText(1, e.key)
		c.writeText(2, e.value)
		return
	}
	c.text(1, &e.key)
	c.text(2, &e.value)
}
