package main

import (
	"math"
	"testing"
	"time"
)

func TestPercentilesAreNearestRank(t *testing.T) {
	var samples []time.Duration
	for i := 200; i >= 1; i-- { // in falling order: summarise has to sort
		samples = append(samples, time.Duration(i)*time.Millisecond)
	}
	got := *summarise(samples)
	want := Latency{Mean: 100.5, P50: 100, P90: 180, P99: 198, Max: 200}
	if got != want {
		t.Errorf("found %+v, expected %+v", got, want)
	}
}

func TestPercentilesOfFewSamples(t *testing.T) {
	one := *summarise([]time.Duration{7 * time.Millisecond})
	if one != (Latency{7, 7, 7, 7, 7}) {
		t.Errorf("%+v", one)
	}
	two := *summarise([]time.Duration{2 * time.Millisecond, time.Millisecond})
	if two.P50 != 1 || two.P90 != 2 {
		t.Errorf("%+v", two)
	}
	if summarise(nil) != nil {
		t.Error("no samples must have no latency")
	}
}

func TestHistogramHoldsEverySampleOnce(t *testing.T) {
	samples := []time.Duration{50 * time.Microsecond, 100 * time.Microsecond, 3 * time.Millisecond, 3 * time.Millisecond, time.Second}
	summarise(samples)
	total, last := 0, 0.0
	for _, bucket := range histogram(samples) {
		if bucket.UpTo <= last {
			t.Errorf("bounds do not grow: %v after %v", bucket.UpTo, last)
		}
		last = bucket.UpTo
		total += bucket.Count
	}
	if total != len(samples) || last < 1000 || last > 1260 {
		t.Errorf("%d samples up to %v ms", total, last)
	}
}

func TestArrivalsAreAPoissonProcess(t *testing.T) {
	const rate, span = 200.0, 100 * time.Second
	arrivals, err := poissonArrivals(rate, span, 1, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	expected := rate * span.Seconds()
	if math.Abs(float64(len(arrivals))-expected) > 5*math.Sqrt(expected) {
		t.Errorf("%d arrivals, expected about %g", len(arrivals), expected)
	}
	// Gaps are exponential: mean 1/rate, standard deviation as large as the mean, and 1/e of them above the mean.
	var sum, squares float64
	above := 0
	for i := 1; i < len(arrivals); i++ {
		gap := (arrivals[i] - arrivals[i-1]).Seconds()
		if gap < 0 {
			t.Fatalf("arrival %d is before the one before it", i)
		}
		sum += gap
		squares += gap * gap
		if gap > 1/rate {
			above++
		}
	}
	n := float64(len(arrivals) - 1)
	mean := sum / n
	deviation := math.Sqrt(squares/n - mean*mean)
	if math.Abs(deviation*rate-1) > 0.05 || math.Abs(float64(above)/n-1/math.E) > 0.02 {
		t.Errorf("mean %g, deviation %g, above the mean %g", mean, deviation, float64(above)/n)
	}
}

func TestArrivalsAreFixedByTheSeed(t *testing.T) {
	first, _ := poissonArrivals(50, 10*time.Second, 7, 1000)
	again, _ := poissonArrivals(50, 10*time.Second, 7, 1000)
	other, _ := poissonArrivals(50, 10*time.Second, 8, 1000)
	if len(first) != len(again) || first[0] != again[0] || first[len(first)-1] != again[len(again)-1] {
		t.Error("one seed gave two processes")
	}
	if first[0] == other[0] {
		t.Error("two seeds gave one process")
	}
}

func TestArrivalsAreBounded(t *testing.T) {
	if _, err := poissonArrivals(1000, time.Minute, 1, 100); err == nil {
		t.Error("60,000 arrivals passed a limit of 100")
	}
}
