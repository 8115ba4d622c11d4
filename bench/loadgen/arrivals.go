package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// poissonArrivals gives the intended arrival times, counted from the start of the run, of a Poisson process of
// `rate` requests a second over `span`. The same seed gives the same times, so both sides of a comparison see
// the same bursts. It fails rather than cut the process short when more than `limit` arrivals would be needed.
func poissonArrivals(rate float64, span time.Duration, seed uint64, limit int) ([]time.Duration, error) {
	random := rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15))
	var arrivals []time.Duration
	at := 0.0
	for {
		at += random.ExpFloat64() / rate
		due := time.Duration(at * float64(time.Second))
		if due >= span {
			return arrivals, nil
		}
		if len(arrivals) == limit {
			return nil, fmt.Errorf("--rate %g over %v needs more than --max-requests %d", rate, span, limit)
		}
		arrivals = append(arrivals, due)
	}
}
