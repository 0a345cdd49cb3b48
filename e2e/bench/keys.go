package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// claimers is how many ask at once, and claimBatch for how many devices each time.
const (
	claimers   = 32
	claimBatch = 10
)

// claimed are the keys that were given out.
type claimed struct {
	mu   sync.Mutex
	seen map[string]bool
}

// take notes the keys of an answer to a claim: each is given out once.
func (c *claimed) take(keys map[string]map[string]map[string]any) (n int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for user, devices := range keys {
		for device, given := range devices {
			for id := range given {
				name := user + " " + device + " " + id
				if c.seen[name] {
					return n, fmt.Errorf("%s was given out twice", name)
				}
				c.seen[name] = true
				n++
			}
		}
	}
	return n, nil
}

// claimKeys: every key of every device is claimed once.
func claimKeys(ctx context.Context, b *bench) error {
	devices, err := b.registerMany(ctx, "device", b.sizes.claimDevices)
	if err != nil {
		return err
	}
	uploads := load{name: "one-time keys: upload", ops: len(devices), workers: 8, units: b.sizes.claimKeys, do: func(ctx context.Context, n int) error {
		d, keys := devices[n], object{}
		for k := range b.sizes.claimKeys {
			keys[fmt.Sprintf("signed_curve25519:K%05d", k)] = object{"key": fmt.Sprintf("%043d", k), "signatures": object{d.id: object{"ed25519:" + d.device: fmt.Sprintf("%086d", k)}}}
		}
		return d.call(ctx, "POST", "/keys/upload", object{"one_time_keys": keys}, nil)
	}}
	if err := b.measure(ctx, uploads); err != nil {
		return err
	}
	all := &claimed{seen: map[string]bool{}}
	batch := min(claimBatch, len(devices))
	// Requests that follow each other ask for other devices; after a round the next
	// key of each is asked for.
	requests := len(devices) / batch * b.sizes.claimKeys
	err = b.measure(ctx, load{name: fmt.Sprintf("one-time keys: claim, %d a request", batch), ops: requests, workers: claimers, units: batch, do: func(ctx context.Context, n int) error {
		wanted := map[string]object{}
		for i := range batch {
			d := devices[(n*batch+i)%(len(devices)/batch*batch)]
			wanted[d.id] = object{d.device: "signed_curve25519"}
		}
		var answer struct {
			Keys map[string]map[string]map[string]any `json:"one_time_keys"`
		}
		if err := devices[n%len(devices)].call(ctx, "POST", "/keys/claim", object{"one_time_keys": wanted}, &answer); err != nil {
			return err
		}
		got, err := all.take(answer.Keys)
		if err == nil && got != batch {
			err = fmt.Errorf("a claim of %d keys gave %d", batch, got)
		}
		return err
	}})
	if err == nil && len(all.seen) != requests*batch {
		err = errors.New("not every key was given out")
	}
	return err
}
