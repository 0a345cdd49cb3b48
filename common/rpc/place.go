package rpc

import "context"

// Placer is a Caller that knows which process it would ask.
type Placer interface {
	// Place names the process that calls about a key go to now.
	Place(ctx context.Context, service, key string) string
}

// Place tells calls about different keys of a service apart by the process that
// they go to: questions about keys of the same place may well be asked in one
// call. It is a guess, since any instance answers, and "" where there is but one.
func Place(ctx context.Context, c Caller, service, key string) string {
	if p, ok := c.(Placer); ok {
		return p.Place(ctx, service, key)
	}
	return ""
}

// Place implements Placer.
func (c *HTTPClient) Place(ctx context.Context, service, key string) string {
	base, err := c.Address(ctx, service, key)
	if err != nil {
		return "" // the call itself will say so
	}
	return base
}
