package mediaapi

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

// TestFlights: a panic ends no process, who goes does not end the work of others, and
// a server that stops does.
func TestFlights(t *testing.T) {
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	f := newFlights(logrus.NewEntry(logger))
	if _, err := f.do(t.Context(), "p", time.Minute, func(context.Context) (any, error) { panic("hostile") }); err == nil {
		t.Error("a panic is no error")
	}
	first, gone := context.WithCancel(t.Context())
	begun, release := make(chan struct{}), make(chan struct{})
	work := func(ctx context.Context) (any, error) {
		close(begun)
		select {
		case <-release:
			return "done", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	outcome := make(chan error, 1)
	go func() { _, err := f.do(first, "k", time.Minute, work); outcome <- err }()
	<-begun
	gone()
	if err := <-outcome; !errors.Is(err, context.Canceled) {
		t.Errorf("who goes: %v", err)
	}
	second := make(chan any, 1)
	go func() {
		v, _ := f.do(t.Context(), "k", time.Minute, func(context.Context) (any, error) { return "again", nil })
		second <- v
	}()
	close(release)
	if v := <-second; v != "done" && v != "again" {
		t.Errorf("who stays: %v", v)
	}
	begun, release = make(chan struct{}), make(chan struct{})
	go func() { _, err := f.do(t.Context(), "s", time.Minute, work); outcome <- err }()
	<-begun
	f.end()
	if err := <-outcome; !errors.Is(err, context.Canceled) {
		t.Errorf("at the end: %v", err)
	}
	if _, err := f.do(t.Context(), "late", time.Minute, func(context.Context) (any, error) { return nil, nil }); err == nil {
		t.Error("after the end it goes on")
	}
}
