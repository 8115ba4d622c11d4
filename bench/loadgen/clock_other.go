//go:build !linux

package main

import "time"

// alarm falls back on Go's timers where there is no timerfd; the report's dispatch lag shows what they cost.
type alarm struct{}

func newAlarm() (*alarm, error) { return &alarm{}, nil }

func (*alarm) sleep(d time.Duration) error {
	time.Sleep(d)
	return nil
}

func (*alarm) close() {}
