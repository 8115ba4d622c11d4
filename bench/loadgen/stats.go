package main

import (
	"math"
	"sort"
	"time"
)

// Latency summarises samples in milliseconds. Percentiles are exact (nearest rank over all samples).
type Latency struct {
	Mean float64 `json:"mean"`
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	Max  float64 `json:"max"`
}

// Bucket counts the samples that are at most UpTo milliseconds and above the bucket before.
type Bucket struct {
	UpTo  float64 `json:"up_to_ms"`
	Count int     `json:"count"`
}

// bucketGrowth gives ten buckets for every factor of ten.
var bucketGrowth = math.Pow(10, 0.1)

const firstBucket = 0.1 // ms

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// nearestRank gives the smallest sample with at least the share q (0 < q ≤ 1) of all samples at or below it.
func nearestRank(sorted []time.Duration, q float64) time.Duration {
	rank := int(math.Ceil(q*float64(len(sorted)) - 1e-9))
	return sorted[max(rank, 1)-1]
}

// summarise sorts the samples in place; without samples there is no latency (nil).
func summarise(samples []time.Duration) *Latency {
	if len(samples) == 0 {
		return nil
	}
	sort.Slice(samples, func(i, j int) bool { return samples[i] < samples[j] })
	var sum time.Duration
	for _, sample := range samples {
		sum += sample
	}
	return &Latency{
		Mean: milliseconds(sum) / float64(len(samples)),
		P50:  milliseconds(nearestRank(samples, 0.50)),
		P90:  milliseconds(nearestRank(samples, 0.90)),
		P99:  milliseconds(nearestRank(samples, 0.99)),
		Max:  milliseconds(samples[len(samples)-1]),
	}
}

// histogram counts sorted samples in buckets that grow by a constant factor; empty ends are left out.
func histogram(sorted []time.Duration) []Bucket {
	buckets := []Bucket{}
	next := 0
	for bound := firstBucket; next < len(sorted); bound *= bucketGrowth {
		count := 0
		for next < len(sorted) && milliseconds(sorted[next]) <= bound {
			next++
			count++
		}
		if count > 0 || len(buckets) > 0 {
			buckets = append(buckets, Bucket{UpTo: math.Round(bound*1e4) / 1e4, Count: count})
		}
	}
	return buckets
}
