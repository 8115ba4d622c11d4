package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// plan is one bounded run: what is sent, how, and when it ends.
type plan struct {
	requests    [][]byte // prepared, in the order of the texts
	offset      int      // index of the first measured request
	expectDim   int
	clients     int             // closed loop
	arrivals    []time.Duration // open loop: intended times from the start of the warm-up
	warmup      time.Duration
	duration    time.Duration
	maxRequests int // measured requests, and as many again for the warm-up
	timeout     time.Duration
	samples     int // answers kept, of the first measured requests
}

// outcome is what one run gave. Only requests of the measured window are counted.
type outcome struct {
	right, wrong  int
	refused       int // answers that there is too much to do: neither right nor an error
	firstError    string
	latencies     []time.Duration
	refusals      []time.Duration // their latencies
	lags          []time.Duration // open loop: intended arrival → sent
	answers       map[int][]float32
	sent          int // measured requests taken from the list
	elapsed       time.Duration
	rightInWindow int // right answers between the two events (window opens, window closes)
}

type runner struct {
	plan     plan
	target   target
	event    func(name string) // told "measure-start" and "measure-end" at once
	start    time.Time
	warmSent atomic.Int64
	sent     atomic.Int64
	open     atomic.Bool
	scratch  sync.Pool

	mutex   sync.Mutex
	outcome outcome
}

func newRunner(p plan, t target, event func(string)) *runner {
	return &runner{
		plan: p, target: t, event: event,
		scratch: sync.Pool{New: func() any { return new([]float32) }},
		outcome: outcome{answers: map[int][]float32{}},
	}
}

// warmIndex walks from the end of the list backwards, so that the warm-up uses none of the first measured texts
// and a faster side does not begin its measurement at other texts.
func (r *runner) warmIndex() (int, bool) {
	n := r.warmSent.Add(1)
	size := int64(len(r.plan.requests))
	position := (int64(r.plan.offset) - n) % size
	if position < 0 {
		position += size
	}
	return int(position), n <= int64(r.plan.maxRequests)
}

// measuredIndex gives the next request's ordinal, or false when the count is used up.
func (r *runner) measuredIndex() (int, bool) {
	n := int(r.sent.Add(1)) - 1
	if n >= r.plan.maxRequests {
		r.sent.Add(-1)
		return 0, false
	}
	return n, true
}

func (r *runner) request(ordinal int) []byte {
	return r.plan.requests[(r.plan.offset+ordinal)%len(r.plan.requests)]
}

// send does one request; ordinal is negative in the warm-up.
func (r *runner) send(request []byte, ordinal int) error {
	ctx, cancel := context.WithTimeout(context.Background(), r.plan.timeout)
	defer cancel()
	buffer := r.scratch.Get().(*[]float32)
	defer r.scratch.Put(buffer)
	values, err := r.target.send(ctx, request, (*buffer)[:0])
	*buffer = values
	if err == nil {
		err = checkVector(values, r.plan.expectDim)
	}
	if err == nil && 0 <= ordinal && ordinal < r.plan.samples {
		kept := append([]float32(nil), values...)
		r.mutex.Lock()
		r.outcome.answers[ordinal] = kept
		r.mutex.Unlock()
	}
	return err
}

// record counts one finished request. In the closed loop what finishes inside the window counts (a request on its way
// when the window opened does, one still on its way when it closes does not); in the open loop, what was due inside it.
func (r *runner) record(err error, latency time.Duration, due bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	inWindow := r.open.Load()
	if inWindow && err == nil {
		r.outcome.rightInWindow++
	}
	if r.plan.clients > 0 && !inWindow || r.plan.clients == 0 && !due {
		return
	}
	if isRefusal(err) {
		r.outcome.refused++
		r.outcome.refusals = append(r.outcome.refusals, latency)
		return
	}
	if err != nil {
		r.outcome.wrong++
		if r.outcome.firstError == "" {
			r.outcome.firstError = err.Error()
		}
		return
	}
	r.outcome.right++
	r.outcome.latencies = append(r.outcome.latencies, latency)
}

func (r *runner) openWindow() time.Time {
	r.event("measure-start")
	r.open.Store(true)
	return time.Now()
}

func (r *runner) closeWindow() {
	r.open.Store(false)
	r.event("measure-end")
}

// closed keeps `clients` requests in flight. The window opens while they are in flight and closes while they are:
// answers completed inside it are counted, so the throughput has no start-up or draining in it.
func (r *runner) closed() outcome {
	r.start = time.Now()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var measuring atomic.Bool
	var clients sync.WaitGroup
	var opened time.Time
	if r.plan.warmup == 0 { // before the first request, else it would be one of the warm-up's
		opened = r.openWindow()
		measuring.Store(true)
	}
	for range r.plan.clients {
		clients.Add(1)
		go func() {
			defer clients.Done()
			for ctx.Err() == nil {
				ordinal, counted := -1, measuring.Load()
				var request []byte
				if counted {
					var ok bool
					if ordinal, ok = r.measuredIndex(); !ok {
						return
					}
					request = r.request(ordinal)
				} else {
					index, ok := r.warmIndex()
					if !ok { // the warm-up's count is used up: wait for the window
						time.Sleep(time.Millisecond)
						continue
					}
					request = r.plan.requests[index]
				}
				sent := time.Now()
				err := r.send(request, ordinal)
				r.record(err, time.Since(sent), counted)
			}
		}()
	}
	if r.plan.warmup > 0 {
		time.Sleep(r.plan.warmup)
		opened = r.openWindow()
		measuring.Store(true)
	}
	done := make(chan struct{}) // closed when every client has found the count used up
	go func() {
		clients.Wait()
		close(done)
	}()
	select {
	case <-time.After(r.plan.duration):
	case <-done:
	}
	elapsed := time.Since(opened)
	r.closeWindow()
	stop()
	<-done
	return r.result(elapsed)
}

// openLoop sends at the intended times whatever the server does, and counts latency from the intended time: a server
// that stalls pays for every request that should have been sent meanwhile.
func (r *runner) openLoop() (outcome, error) {
	clock, err := newAlarm()
	if err != nil {
		return outcome{}, err
	}
	defer clock.close()
	var inFlight sync.WaitGroup
	r.start = time.Now()
	var opened time.Time
	for _, due := range r.plan.arrivals {
		counted := due >= r.plan.warmup
		if counted && opened.IsZero() {
			if err := clock.sleep(r.plan.warmup - time.Since(r.start)); err != nil {
				return outcome{}, err
			}
			opened = r.openWindow()
		}
		if err := clock.sleep(due - time.Since(r.start)); err != nil {
			return outcome{}, err
		}
		ordinal := -1
		var request []byte
		if counted {
			ordinal, _ = r.measuredIndex()
			request = r.request(ordinal)
			r.outcome.lags = append(r.outcome.lags, time.Since(r.start)-due)
		} else {
			index, _ := r.warmIndex()
			request = r.plan.requests[index]
		}
		inFlight.Add(1)
		go func() {
			defer inFlight.Done()
			err := r.send(request, ordinal)
			r.record(err, time.Since(r.start)-due, counted)
		}()
	}
	if opened.IsZero() {
		opened = r.openWindow()
	}
	inFlight.Wait()
	elapsed := time.Since(opened)
	r.closeWindow()
	return r.result(elapsed), nil
}

func (r *runner) result(elapsed time.Duration) outcome {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.outcome.elapsed = elapsed
	r.outcome.sent = int(r.sent.Load())
	return r.outcome
}
