package bench

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Figure is a measured value with its 95 % interval.
type Figure struct {
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

// TooFewError refuses a percentile that too few samples lie beyond.
type TooFewError struct{ Have, Need int }

func (e *TooFewError) Error() string {
	return fmt.Sprintf("%d samples are too few for this percentile: it needs %d", e.Have, e.Need)
}

// enough asks for 100 samples, and for ten beyond the percentile.
func enough(n int, p float64) error {
	if need := max(100, int(10/(1-p)+0.5)); n < need {
		return &TooFewError{Have: n, Need: need}
	}
	return nil
}

const (
	blockRounds = 50 // rounds in a block: what is slow for a while stays together
	resamples   = 1000
)

// ratio compares one percentile of two paired series, round by round in num and
// den, each a slice per restart of the processes. The interval is a block
// bootstrap's: blocks of consecutive rounds are drawn, the same for both.
func ratio(num, den [][]float64, p float64) (Figure, error) {
	return bootstrap(num, den, func(n, d *ranked) float64 { return n.percentile(p) / d.percentile(p) }, p)
}

// Percentile is one percentile of one series.
func Percentile(series [][]float64, p float64) (Figure, error) {
	return bootstrap(series, series, func(n, _ *ranked) float64 { return n.percentile(p) }, p)
}

func bootstrap(num, den [][]float64, measure func(n, d *ranked) float64, p float64) (Figure, error) {
	n, d := slices.Concat(num...), slices.Concat(den...)
	if len(n) != len(d) {
		return Figure{}, fmt.Errorf("%d samples against %d: not paired", len(n), len(d))
	}
	if err := enough(len(n), p); err != nil {
		return Figure{}, err
	}
	var blocks [][2]int // of indices in n and d; none reaches over a restart
	at := 0
	for _, series := range num {
		for from := 0; from < len(series); from += blockRounds {
			blocks = append(blocks, [2]int{at + from, at + min(from+blockRounds, len(series))})
		}
		at += len(series)
	}
	rn, rd := rank(n), rank(d)
	for i := range n {
		rn.weight[rn.of[i]]++
		rd.weight[rd.of[i]]++
	}
	rn.total, rd.total = len(n), len(n)
	figure := Figure{Value: measure(rn, rd)}
	rng := rand.New(rand.NewPCG(1, 2)) // the same data give the same interval
	drawn := make([]float64, resamples)
	for i := range drawn {
		rn.reset()
		rd.reset()
		for range blocks {
			b := blocks[rng.IntN(len(blocks))]
			for j := b[0]; j < b[1]; j++ {
				rn.add(j)
				rd.add(j)
			}
		}
		drawn[i] = measure(rn, rd)
	}
	slices.Sort(drawn)
	figure.Low, figure.High = drawn[resamples*25/1000], drawn[resamples*975/1000-1]
	return figure, nil
}

// ranked is a series sorted once, of which samples are drawn by weight.
type ranked struct {
	sorted []float64
	of     []int // the place of each sample in sorted
	weight []int
	total  int
}

func rank(series []float64) *ranked {
	order := make([]int, len(series))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case series[a] < series[b]:
			return -1
		case series[a] > series[b]:
			return 1
		}
		return a - b
	})
	r := &ranked{sorted: make([]float64, len(series)), of: make([]int, len(series)), weight: make([]int, len(series))}
	for place, i := range order {
		r.sorted[place], r.of[i] = series[i], place
	}
	return r
}

func (r *ranked) reset() {
	clear(r.weight)
	r.total = 0
}

func (r *ranked) add(i int) {
	r.weight[r.of[i]]++
	r.total++
}

// percentile is the smallest sample that at least p of the drawn ones don't exceed.
func (r *ranked) percentile(p float64) float64 {
	need := int(p*float64(r.total) + 0.5)
	for place, w := range r.weight {
		if need -= w; need <= 0 && w > 0 {
			return r.sorted[place]
		}
	}
	return r.sorted[len(r.sorted)-1]
}
