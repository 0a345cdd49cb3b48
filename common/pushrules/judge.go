package pushrules

import (
	"bytes"
	"cmp"
	"context"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// Verdict is what a user's rules say of an event. It is shared: do not change it.
type Verdict struct {
	// Notify tells whether the user is notified, Highlight whether with emphasis.
	Notify, Highlight bool
	// Actions are those of the rule that matched, Tweaks what they set.
	Actions []jsontext.Value
	Tweaks  map[string]jsontext.Value
}

// Surroundings is what rules ask about a room. They are asked only where a
// condition needs it.
type Surroundings struct {
	// UserID is whose rules they are, where they serve several users.
	UserID      string
	Members     func(context.Context) (int64, error)
	DisplayName func(context.Context) (string, error)
	// MayNotify tells whether a sender has the power for a kind of notification.
	MayNotify func(ctx context.Context, sender, key string) (bool, error)
	// Subscription tells whether the user is subscribed to a thread of the room.
	Subscription func(ctx context.Context, root string) (Subscription, error)
}

// Subscription is what a user has to do with a thread.
type Subscription int

const (
	// NoSubscriptions is of users who have never been subscribed to any thread:
	// their clients may not know of that, and rules about it do not hold.
	NoSubscriptions Subscription = iota
	Subscribed
	Unsubscribed
)

// Judge finds the first rule that matches an event, and what it says. Of events
// that no rule matches nobody is notified.
func (r *Ruleset) Judge(ctx context.Context, s *Subject, in *Surroundings) (*Verdict, error) {
	for i := range r.rules {
		rule := &r.rules[i]
		ok, err := rule.matches(ctx, s, in)
		if err != nil {
			return nil, err
		}
		if ok {
			return &rule.verdict, nil
		}
	}
	return &Verdict{}, nil
}

func (r *compiled) matches(ctx context.Context, s *Subject, in *Surroundings) (bool, error) {
	if r.room != "" && r.room != s.event.RoomID() || r.sender != "" && r.sender != s.event.Sender() {
		return false, nil
	}
	for i := range r.conditions {
		if ok, err := r.conditions[i].holds(ctx, s, in); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

func (c *condition) holds(ctx context.Context, s *Subject, in *Surroundings) (bool, error) {
	if c.never {
		return false, nil
	}
	switch c.kind {
	case "event_match":
		text, ok := s.textAt(c.key, c.path)
		switch {
		case !ok:
			return false, nil
		case c.pattern != nil:
			return c.pattern.MatchString(text[:min(len(text), maxBody)]), nil
		}
		return strings.EqualFold(text, c.of(in)), nil
	case "event_property_is":
		return bytes.Equal(s.valueAt(c.key, c.path), c.valueOf(in)), nil
	case "event_property_contains":
		array := s.valueAt(c.key, c.path)
		return len(array) > 0 && contains(array, c.valueOf(in)), nil
	case "room_member_count":
		members, err := in.Members(ctx)
		return err == nil && c.counts(members), err
	case "contains_display_name":
		return named(ctx, s, in)
	case threadSubscription:
		return c.subscription(ctx, s, in)
	case "sender_notification_permission":
		return in.MayNotify(ctx, s.event.Sender(), c.key)
	}
	return false, nil
}

// of is the literal that an event_match is about.
func (c *condition) of(in *Surroundings) string {
	if c.self {
		return in.UserID
	}
	return c.literal
}

// valueOf is the value that a condition is about.
func (c *condition) valueOf(in *Surroundings) jsontext.Value {
	if !c.self {
		return c.value
	}
	quoted, err := jsontext.AppendQuote(nil, in.UserID)
	if err != nil {
		return nil // not UTF-8: no user has such an ID
	}
	return quoted
}

// named tells whether the body holds the user's display name as a word.
func named(ctx context.Context, s *Subject, in *Surroundings) (bool, error) {
	body, ok := s.textAt("content.body", []string{"content", "body"})
	if !ok {
		return false, nil
	}
	name, err := in.DisplayName(ctx)
	if err != nil || name == "" {
		return false, err
	}
	return regexp.MatchString(asWord(regexp.QuoteMeta(name)), body[:min(len(body), maxBody)])
}

// subscription tells whether the event is in a thread to which the user is
// subscribed, or is not.
func (c *condition) subscription(ctx context.Context, s *Subject, in *Surroundings) (bool, error) {
	root := s.thread()
	if root == "" {
		return false, nil
	}
	is, err := in.Subscription(ctx, root)
	if c.subscribed {
		return is == Subscribed, err
	}
	return is == Unsubscribed, err
}

func (c *condition) counts(members int64) bool {
	order := cmp.Compare(members, c.count)
	switch c.compare {
	case "", "==":
		return order == 0
	case "<":
		return order < 0
	case ">":
		return order > 0
	case "<=":
		return order <= 0
	case ">=":
		return order >= 0
	}
	return false
}

// contains tells whether an array holds the value.
func contains(array, value jsontext.Value) bool {
	if len(array) == 0 || array.Kind() != '[' || !bytes.Contains(array, value) {
		return false // cheaper than to look, and the usual case
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(array))
	if tok, err := d.ReadToken(); err != nil || tok.Kind() != '[' {
		return false
	}
	for {
		v, err := d.ReadValue()
		if err != nil {
			return false
		}
		if bytes.Equal(v, value) {
			return true
		}
	}
}
