// Package blake3 is the BLAKE3 hash, portable and without work at process start.
// A client derives a socket's name with it, from a few bytes, and a backend hashes
// its own executable, once and only when it is asked who it is. What hashes many
// files (package filehash) takes a library that is several times as fast, and that
// first finds out what the processor can do.
//
// A leaf: it imports nothing of usher.
package blake3

import (
	"encoding/binary"
	"math/bits"
)

// Size is the length of a hash in bytes.
const Size = 32

const (
	blockLen = 64
	chunkLen = 1024
)

// Flags of a block: what it is to the tree.
const (
	chunkStart uint32 = 1 << iota
	chunkEnd
	parent
	root
)

// words is the output of a compression, or the value that one chunk or subtree
// hands upwards.
type words [8]uint32

var initial = words{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19}

// Hash is a hash under way. It implements io.Writer. Use New.
type Hash struct {
	block   [blockLen]byte // of the chunk under way, not yet compressed
	n       int            // bytes in block
	blocks  int            // of the chunk, compressed already
	chunk   words          // value of the chunk so far
	chunks  uint64         // whole chunks before this one
	subtree [54]words      // values of whole subtrees, the largest first
	depth   int            // how many there are
}

// New returns a hash of nothing so far.
func New() *Hash { return &Hash{chunk: initial} }

// Sum256 returns the hash of b.
func Sum256(b []byte) [Size]byte {
	h := New()
	_, _ = h.Write(b)
	return h.Sum()
}

// Write adds p. It never fails.
func (h *Hash) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		if h.n == blockLen { // more follows, so this block isn't the last one
			h.compressBlock()
		}
		n := copy(h.block[h.n:], p)
		h.n += n
		p = p[n:]
	}
	return written, nil
}

// compressBlock takes a full block, behind which something follows, into the chunk,
// and a full chunk into the tree.
func (h *Hash) compressBlock() {
	flags := h.flags()
	if h.blocks == chunkLen/blockLen-1 {
		flags |= chunkEnd
	}
	h.chunk = compress(&h.chunk, &h.block, h.chunks, blockLen, flags)
	h.n = 0
	if h.blocks++; h.blocks < chunkLen/blockLen {
		return
	}
	h.chunks++
	value := h.chunk
	// Each pair of subtrees of one size becomes one: as often as the number of
	// chunks is even.
	for range bits.TrailingZeros64(h.chunks) {
		h.depth--
		value = compressParent(&h.subtree[h.depth], &value, 0)
	}
	h.subtree[h.depth] = value
	h.depth++
	h.chunk, h.blocks = initial, 0
}

func (h *Hash) flags() uint32 {
	if h.blocks == 0 {
		return chunkStart
	}
	return 0
}

// Sum returns the hash of what was written. More may be written afterwards.
func (h *Hash) Sum() (sum [Size]byte) {
	clear(h.block[h.n:])
	flags := h.flags() | chunkEnd
	if h.depth == 0 {
		flags |= root
	}
	value := compress(&h.chunk, &h.block, h.chunks, uint32(h.n), flags)
	for depth := h.depth - 1; depth >= 0; depth-- {
		flags = 0
		if depth == 0 {
			flags = root
		}
		value = compressParent(&h.subtree[depth], &value, flags)
	}
	for i, w := range value {
		binary.LittleEndian.PutUint32(sum[4*i:], w)
	}
	return sum
}

func compressParent(left, right *words, flags uint32) words {
	var block [blockLen]byte
	for i := range left {
		binary.LittleEndian.PutUint32(block[4*i:], left[i])
		binary.LittleEndian.PutUint32(block[4*(i+8):], right[i])
	}
	return compress(&initial, &block, 0, blockLen, parent|flags)
}

// order says which word of the block takes each place in the next round.
var order = [16]uint8{2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8}

const rounds = 7

// compress is BLAKE3's compression function, cut to the half of its output that
// hashes need.
func compress(value *words, block *[blockLen]byte, counter uint64, length, flags uint32) words {
	var m [16]uint32
	for i := range m {
		m[i] = binary.LittleEndian.Uint32(block[4*i:])
	}
	a, b, c, d := value[0], value[1], value[2], value[3]
	e, f, g, h := value[4], value[5], value[6], value[7]
	i, j, k, l := initial[0], initial[1], initial[2], initial[3]
	w, x, y, z := uint32(counter), uint32(counter>>32), length, flags
	for round := range rounds {
		if round > 0 {
			before := m
			for at, from := range order {
				m[at] = before[from]
			}
		}
		a, e, i, w = mix(a, e, i, w, m[0], m[1])
		b, f, j, x = mix(b, f, j, x, m[2], m[3])
		c, g, k, y = mix(c, g, k, y, m[4], m[5])
		d, h, l, z = mix(d, h, l, z, m[6], m[7])
		a, f, k, z = mix(a, f, k, z, m[8], m[9])
		b, g, l, w = mix(b, g, l, w, m[10], m[11])
		c, h, i, x = mix(c, h, i, x, m[12], m[13])
		d, e, j, y = mix(d, e, j, y, m[14], m[15])
	}
	return words{a ^ i, b ^ j, c ^ k, d ^ l, e ^ w, f ^ x, g ^ y, h ^ z}
}

func mix(a, b, c, d, x, y uint32) (uint32, uint32, uint32, uint32) {
	a += b + x
	d = bits.RotateLeft32(d^a, -16)
	c += d
	b = bits.RotateLeft32(b^c, -12)
	a += b + y
	d = bits.RotateLeft32(d^a, -8)
	c += d
	b = bits.RotateLeft32(b^c, -7)
	return a, b, c, d
}
