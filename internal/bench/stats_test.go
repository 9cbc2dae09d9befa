package bench

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestRatio: the ratio of two series that differ by a known factor lies in its
// interval, and the percentiles are those of the sorted samples.
func TestRatio(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var num, den [][]float64
	for range 5 {
		var n, d []float64
		for range 1000 {
			x := 100 + 20*rng.Float64()
			n, d = append(n, 0.8*x), append(d, 100+20*rng.Float64())
		}
		num, den = append(num, n), append(den, d)
	}
	f, err := ratio(num, den, 0.50)
	if err != nil || f.Low > 0.8 || f.High < 0.8 || f.High-f.Low > 0.02 || f.Value < f.Low || f.Value > f.High {
		t.Errorf("%+v, %v", f, err)
	}
	all := slices.Sorted(slices.Values(slices.Concat(num...)))
	p, err := Percentile(num, 0.90)
	if err != nil || p.Value != all[len(all)*9/10-1] {
		t.Errorf("P90 %v, want %v, %v", p.Value, all[len(all)*9/10-1], err)
	}
}

func TestTooFewSamples(t *testing.T) {
	for p, need := range map[float64]int{0.50: 100, 0.90: 100, 0.99: 1000} {
		var few *TooFewError
		if err := enough(need-1, p); !errors.As(err, &few) || few.Need != need {
			t.Errorf("P%v of %d samples: %v", 100*p, need-1, err)
		}
		if err := enough(need, p); err != nil {
			t.Errorf("P%v of %d samples: %v", 100*p, need, err)
		}
	}
	if _, err := ratio([][]float64{make([]float64, 200)}, [][]float64{make([]float64, 100)}, 0.5); err == nil {
		t.Error("a ratio of series that are no pairs")
	}
}
