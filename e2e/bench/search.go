package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

const (
	// searchRooms is in how many rooms the messages are.
	searchRooms = 100
	vocabulary  = 20_000
	// words is how many a message has.
	words = 12
)

// wordOf makes the n-th word of the vocabulary.
func wordOf(n uint64) string {
	const consonants, vowels = "bdfgklmnprstvz", "aeiou"
	var w strings.Builder
	for range 4 {
		w.WriteByte(consonants[n%uint64(len(consonants))])
		n /= uint64(len(consonants))
		w.WriteByte(vowels[n%uint64(len(vowels))])
		n /= uint64(len(vowels))
	}
	return w.String()
}

// searches measures POST /search, if it is served, in messages whose words are as often
// as those of a language.
func searches(ctx context.Context, b *bench) error {
	user, err := b.register(ctx, "searcher")
	if err != nil {
		return err
	}
	if _, err := search(ctx, user, "anything", "rank"); err != nil {
		var f *failure
		if errors.As(err, &f) && (f.status == http.StatusNotFound || f.errcode == "M_UNRECOGNIZED") {
			fmt.Fprintln(b.out, "search: not served by this server")
			return nil
		}
		return err
	}
	rooms := make([]string, min(searchRooms, max(1, b.sizes.messages/10)))
	if err := each(ctx, len(rooms), 8, func(ctx context.Context, n int) (err error) {
		rooms[n], err = user.createRoom(ctx, object{"preset": "private_chat", "name": fmt.Sprint("Searched ", n)})
		return err
	}); err != nil {
		return err
	}
	if err := b.measure(ctx, load{name: "send of messages to be searched", ops: b.sizes.messages, workers: 64, do: func(ctx context.Context, n int) error {
		random := rand.New(rand.NewPCG(uint64(n), 1))
		zipf := rand.NewZipf(random, 1.1, 2.7, vocabulary-1)
		text := make([]string, words)
		for i := range text {
			text[i] = wordOf(zipf.Uint64())
		}
		return user.send(ctx, rooms[n%len(rooms)], fmt.Sprint(b.unique, "s", n), strings.Join(text, " "))
	}}); err != nil {
		return err
	}
	if err := b.indexed(ctx, user, rooms[0]); err != nil {
		return err
	}
	for _, query := range []struct {
		name  string
		term  func(n int) string
		order string
	}{
		{"a common word, by rank", func(n int) string { return wordOf(uint64(n % 10)) }, "rank"},
		{"a common word, recent", func(n int) string { return wordOf(uint64(n % 10)) }, "recent"},
		{"a rare word, by rank", func(n int) string { return wordOf(uint64(2000 + n%1000)) }, "rank"},
		{"two words, recent", func(n int) string { return wordOf(uint64(20+n%50)) + " " + wordOf(uint64(100+n%70)) }, "recent"},
	} {
		found := 0
		if err := b.measure(ctx, load{name: "search for " + query.name, ops: b.sizes.searches, workers: 1, do: func(ctx context.Context, n int) error {
			count, err := search(ctx, user, query.term(n), query.order)
			found += count
			return err
		}}, func(f *figures) string { return fmt.Sprintf("%.0f found by each", float64(found)/f.ops) }); err != nil {
			return err
		}
	}
	return nil
}

// search searches, and returns how many messages are said to match.
func search(ctx context.Context, user *client, term, order string) (int, error) {
	var answer struct {
		Categories struct {
			Events struct {
				Count int `json:"count"`
			} `json:"room_events"`
		} `json:"search_categories"`
	}
	err := user.call(ctx, "POST", "/search", object{"search_categories": object{"room_events": object{
		"search_term": term, "order_by": order, "filter": object{"limit": 10}}}}, &answer)
	return answer.Categories.Events.Count, err
}

// indexed waits until what was sent last is found.
func (b *bench) indexed(ctx context.Context, user *client, room string) error {
	began, word := time.Now(), "last"+b.unique
	if err := user.send(ctx, room, b.unique+"last", word); err != nil {
		return err
	}
	for {
		n, err := search(ctx, user, word, "recent")
		if err != nil {
			return err
		}
		if n > 0 {
			fmt.Fprintf(b.out, "a message is found %.1f s after those before it were sent\n", time.Since(began).Seconds())
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
