package pushapi

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/consumer"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/pushrules"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

const (
	// peoplePage is how many people are asked for at once.
	peoplePage = 500
	// followBytes bounds what is read of a partition of user.output at once.
	followBytes = 256 << 10
	// retryFollow is the pause after a failure.
	retryFollow = time.Second
)

// person is a user who has pushers. It is replaced, not changed.
type person struct {
	id      string
	pushers []userapi.Pusher
	rules   *sharedRules
	ignored map[string]struct{}
	invites userapi.InviteRules
	threads *threads
}

// sharedRules are the compiled rules of all who have the same. Where they name their
// user, they stand for each of these.
type sharedRules struct {
	key   [sha256.Size]byte
	set   *pushrules.Ruleset
	users int
}

// people are all who have pushers.
type people struct {
	mu    sync.RWMutex
	all   map[string]*person
	rules map[[sha256.Size]byte]*sharedRules
	// fresh are those whose rooms the judging loop has not asked for.
	fresh map[string]struct{}
	// seed is what threads are named with in memory.
	seed maphash.Seed
	// progress is how far user.output was applied.
	progress *consumer.Progress
	// known is closed once everybody has been asked for.
	known chan struct{}
}

func newPeople(partitions int) *people {
	return &people{all: map[string]*person{}, rules: map[[sha256.Size]byte]*sharedRules{}, fresh: map[string]struct{}{}, seed: maphash.MakeSeed(),
		progress: consumer.NewOwnProgress(partitions), known: make(chan struct{})}
}

// get returns a person; nil for who has no pusher.
func (p *people) get(userID string) *person {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.all[userID]
}

func (p *people) count() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.all)
}

// ids lists everybody.
func (p *people) ids() []string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := make([]string, 0, len(p.all))
	for id := range p.all {
		out = append(out, id)
	}
	return out
}

// takeFresh returns who is new since it was called last.
func (p *people) takeFresh() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for id := range p.fresh {
		out = append(out, id)
	}
	clear(p.fresh)
	return out
}

// putFresh gives them back.
func (p *people) putFresh(ids []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		p.fresh[id] = struct{}{}
	}
}

// await waits until everybody is known, or ctx is done.
func (p *people) await(ctx context.Context) bool {
	select {
	case <-p.known:
		return true
	case <-ctx.Done():
		return false
	}
}

// reach waits until a change has been applied, or ctx is done.
func (p *people) reach(ctx context.Context, partition int, seq int64) bool {
	want := make([]int64, partition+1)
	want[partition] = seq
	return p.progress.Await(ctx, want) == nil
}

// put makes a person known as is told, with what it has said of threads; without
// pushers it is forgotten.
func (p *people) put(u *userapi.PushedUser, said []userapi.ThreadOf) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.all[u.UserID]
	if old != nil {
		p.release(old.rules)
	}
	if len(u.Pushers) == 0 {
		delete(p.all, u.UserID)
		return
	}
	next := &person{id: u.UserID, pushers: u.Pushers, rules: p.compile(u.UserID, u.Data[userapi.TypePushRules]), threads: p.threadsOf(said)}
	for typ, content := range u.Data {
		next.set(typ, content)
	}
	p.all[u.UserID] = next
	if old == nil {
		p.fresh[u.UserID] = struct{}{}
	}
}

// setPushers replaces the pushers of somebody known; false when it is not, and has
// some.
func (p *people) setPushers(userID string, list []userapi.Pusher) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.all[userID]
	switch {
	case old == nil:
		return len(list) == 0
	case len(list) == 0:
		p.release(old.rules)
		delete(p.all, userID)
	default:
		next := *old
		next.pushers = list
		p.all[userID] = &next
	}
	return true
}

// set replaces what somebody's account data of a type is, if it is known.
func (p *people) set(userID, typ string, content jsontext.Value) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.all[userID]
	if old == nil {
		return
	}
	next := *old
	if typ == userapi.TypePushRules {
		p.release(old.rules)
		next.rules = p.compile(userID, content)
	}
	next.set(typ, content)
	p.all[userID] = &next
}

// set takes account data over that is not rules.
func (u *person) set(typ string, content jsontext.Value) {
	switch typ {
	case userapi.TypeIgnoredUsers:
		u.ignored = userapi.IgnoredUsers(content)
	case userapi.TypeInvitePermission:
		u.invites.SetPermission(content)
	case userapi.TypeInviteFilter:
		u.invites.SetFilter(content)
	}
}

// compile returns compiled rules; p.mu is held.
func (p *people) compile(userID string, content jsontext.Value) *sharedRules {
	quoted, err := jsontext.AppendQuote(nil, userID)
	if err != nil {
		quoted = []byte(`""`)
	}
	key := sha256.Sum256([]byte(strings.ReplaceAll(string(content), string(quoted), "\x00")))
	shared := p.rules[key]
	if shared == nil {
		set, serves := pushrules.CompileFor(content, userID)
		if !serves {
			key = sha256.Sum256([]byte(userID)) // nobody else's
		}
		shared = &sharedRules{key: key, set: set}
		p.rules[key] = shared
	}
	shared.users++
	return shared
}

// release ends somebody's use of rules; p.mu is held.
func (p *people) release(r *sharedRules) {
	if r.users--; r.users == 0 {
		delete(p.rules, r.key)
	}
}

// follow keeps people as user.output tells, until ctx is done. Where it does not
// reach back to what is known, everybody is asked for anew.
func (s *Server) follow(ctx context.Context) error {
	from := map[int]int64{}
	for ctx.Err() == nil {
		err := s.followOnce(ctx, from)
		if errors.Is(err, eventlog.ErrClosed) && ctx.Err() == nil {
			return fmt.Errorf("pushapi: %w", err)
		}
		if err != nil && ctx.Err() == nil {
			s.logger.WithError(err).Warn("People's pushers and rules cannot be followed now; trying again")
			select {
			case <-time.After(retryFollow):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// followOnce asks for everybody, where it is not known from which offsets on to
// follow, and then follows until something fails.
func (s *Server) followOnce(ctx context.Context, from map[int]int64) error {
	if len(from) == 0 {
		if err := s.askEverybody(ctx, from); err != nil {
			clear(from)
			return err
		}
	}
	for {
		read, err := s.log.ReadMany(ctx, userapi.TopicUserOutput, from, followBytes)
		if errors.Is(err, eventlog.ErrOffsetOutOfRange) {
			clear(from) // it was cut, at either end
		}
		if err != nil {
			return err
		}
		reached := map[int]int64{}
		for partition, records := range read {
			for _, r := range records {
				seq, err := s.applyChange(ctx, r.Value)
				if err != nil {
					return fmt.Errorf("%s: partition %d, offset %d: %w", userapi.TopicUserOutput, partition, r.Offset, err)
				}
				reached[partition], from[partition] = max(reached[partition], seq), r.Offset+1
			}
		}
		s.people.progress.Advance(reached)
	}
}

// askEverybody asks the user-api who has pushers, and notes where user.output was
// before that: what is told from there on may be known already, which is harmless,
// since it is always the whole that is told.
func (s *Server) askEverybody(ctx context.Context, from map[int]int64) error {
	for p := range s.partitions {
		_, end, err := s.log.Bounds(ctx, userapi.TopicUserOutput, p)
		if err != nil {
			return err
		}
		from[p] = end
	}
	gone := map[string]struct{}{}
	for _, id := range s.people.ids() {
		gone[id] = struct{}{}
	}
	for after := ""; ; {
		page, err := userapi.QueryPushed.Call(ctx, s.caller, &userapi.PushedRequest{After: after, Limit: peoplePage})
		if err != nil {
			return err
		}
		if len(page.Users) == 0 {
			break
		}
		said, err := s.askThreads(ctx, page.Users)
		if err != nil {
			return err
		}
		for i := range page.Users {
			after = page.Users[i].UserID
			s.people.put(&page.Users[i], said[after])
			delete(gone, after)
		}
	}
	for id := range gone {
		s.people.setPushers(id, nil)
	}
	select {
	case <-s.people.known:
	default:
		s.people.takeFresh() // their rooms are asked for as partitions are entered
		close(s.people.known)
	}
	return nil
}

// applyChange applies a change to people, and returns its Seq.
func (s *Server) applyChange(ctx context.Context, value []byte) (seq int64, err error) {
	var c userapi.UserChange
	if err := json.Unmarshal(value, &c); err != nil {
		return 0, err
	}
	switch c.Kind {
	case userapi.ChangePushers:
		var list []userapi.Pusher
		if err := json.Unmarshal(c.Content, &list); err != nil {
			return 0, err
		}
		if !s.people.setPushers(c.UserID, list) {
			if err := s.meet(ctx, c.UserID, list); err != nil {
				return 0, err
			}
		}
	case userapi.ChangePushRules:
		s.people.set(c.UserID, userapi.TypePushRules, c.Content)
	case userapi.ChangeThread:
		is, err := userapi.ThreadStateOf(&c)
		if err != nil {
			return 0, err
		}
		s.people.sayOf(&c, is.Subscribed)
	case userapi.ChangeAccountData:
		if c.RoomID == "" {
			s.people.set(c.UserID, c.Type, c.Content)
		}
	}
	return c.Seq, nil
}

// meet asks for the rules of somebody who had no pusher until now.
func (s *Server) meet(ctx context.Context, userID string, list []userapi.Pusher) error {
	data, err := userapi.QueryAccountData.Call(ctx, s.caller, &userapi.AccountDataRequest{
		UserID: userID, RoomIDs: []string{""}, Types: userapi.PushedTypes()})
	if err != nil {
		return err
	}
	u := userapi.PushedUser{UserID: userID, Pushers: list, Data: data.Data[""]}
	said, err := s.askThreads(ctx, []userapi.PushedUser{u})
	if err != nil {
		return err
	}
	s.people.put(&u, said[userID])
	return nil
}
