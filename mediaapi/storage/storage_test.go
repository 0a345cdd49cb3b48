package storage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

const (
	ours  = "test"
	alice = "@alice:test"
	now   = int64(1_700_000_000_000)
)

// world is a database.
type world struct {
	*testing.T
	*Database
}

func engines(t *testing.T, test func(w *world)) {
	sqldbtest.Each(t, func(t *testing.T) {
		d, err := New(t.Context(), sqldbtest.Open(t, filepath.Join(t.TempDir(), "media.db")))
		if err != nil {
			t.Fatal(err)
		}
		test(&world{t, d})
	})
}

func (w *world) ok(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) is(err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("%v, want %v", err, want)
	}
}

// hash makes what looks like a hash.
func hash(n int) string { return fmt.Sprintf("%064d", n) }

func media(id string, n int) Media {
	return Media{Ref: Ref{ours, id}, Kind: Upload, UserID: alice, CreatedTS: now, UploadedTS: now, AccessedTS: now, ContentType: "image/png", Filename: "ä\x00", Size: 10, Hash: hash(n)}
}

// put stores media, all the way.
func (w *world) put(m Media) {
	w.Helper()
	_, err := w.Claim(w.Context(), "c-"+m.ID, Blob{m.Hash, "g", m.Size}, 60_000)
	w.ok(err)
	w.ok(w.Commit(w.Context(), "c-"+m.ID, m, false, 0))
}

// gone tells whether a look at a blob finds it not needed.
func (w *world) gone(h string) bool {
	w.Helper()
	b, doomed, err := w.Doom(w.Context(), h)
	w.ok(err)
	if doomed {
		w.ok(w.Forget(w.Context(), b))
	}
	return doomed
}

func TestMedia(t *testing.T) {
	engines(t, func(w *world) {
		ctx := w.Context()
		want := media("a", 1)
		w.put(want)
		got, ok, err := w.Media(ctx, want.Ref)
		if err != nil || !ok || got != want {
			t.Fatalf("%+v %v %v", got, ok, err)
		}
		if _, ok, err := w.Media(ctx, Ref{ours, "b"}); ok || err != nil {
			t.Error(ok, err)
		}
		_, err = w.Claim(ctx, "again", Blob{hash(1), "other", 10}, 60_000)
		w.ok(err)
		w.is(w.Commit(ctx, "again", want, false, 0), ErrTaken)
		w.is(w.Commit(ctx, "never", media("c", 1), false, 0), ErrClaimLost)
		w.is(w.Commit(ctx, "again", media("c", 1), false, 19), ErrQuota)
		if n, err := w.Usage(ctx, alice); n != 10 || err != nil {
			t.Errorf("usage %d %v", n, err)
		}
		w.ok(w.Commit(ctx, "again", media("c", 1), false, 20))
		w.ok(w.Touch(ctx, []Ref{want.Ref, {ours, "none"}}, now+5))
		list, err := w.UserMedia(ctx, alice, Media{}, 1)
		if err != nil || len(list) != 1 || list[0].ID != "c" {
			t.Fatalf("%v %v", list, err)
		}
		list, err = w.UserMedia(ctx, alice, list[0], 10)
		if err != nil || len(list) != 1 || list[0].ID != "a" || list[0].AccessedTS != now+5 {
			t.Fatalf("%v %v", list, err)
		}
	})
}

func TestCreated(t *testing.T) {
	engines(t, func(w *world) {
		ctx := w.Context()
		m := Media{Ref: Ref{ours, "p"}, Kind: Upload, UserID: alice, CreatedTS: now, ExpiresTS: now + 100}
		w.ok(w.Create(ctx, m, 2))
		other := m
		other.ID = "q"
		w.ok(w.Create(ctx, other, 2))
		third := m
		third.ID = "r"
		w.is(w.Create(ctx, third, 2), ErrPending)
		third.CreatedTS, third.ExpiresTS = now+100, now+200 // the others have expired
		w.ok(w.Create(ctx, third, 2))
		upload := func(id, user string, at int64) error {
			u := media(id, 7)
			u.UserID, u.UploadedTS = user, at
			_, err := w.Claim(ctx, id+user, Blob{u.Hash, "g", u.Size}, 60_000)
			w.ok(err)
			return w.Commit(ctx, id+user, u, true, 0)
		}
		w.ok(upload("p", alice, now+99))
		w.is(upload("p", "again:"+alice, now+99), ErrTaken)
		w.is(upload("q", "@bob:test", now+99), ErrGone)
		w.is(upload("q", alice, now+100), ErrGone)
		w.is(upload("none", alice, now), ErrGone)
		if got, _, err := w.Media(ctx, m.Ref); err != nil || got.UploadedTS != now+99 || got.ExpiresTS != 0 || got.CreatedTS != now || got.Hash != hash(7) {
			t.Errorf("%+v %v", got, err)
		}
		expired, err := w.Expired(ctx, now+100, 10)
		if err != nil || len(expired) != 1 || expired[0].ID != "q" {
			t.Errorf("%v %v", expired, err)
		}
		// What was uploaded at the last moment stays.
		if n, err := w.DeleteExpired(ctx, []Ref{{ours, "p"}, {ours, "q"}}, now+100); n != 1 || err != nil {
			t.Errorf("deleted %d %v", n, err)
		}
	})
}

// TestNeeded: bytes are there for as long as something names or claims them.
func TestNeeded(t *testing.T) {
	engines(t, func(w *world) {
		ctx := w.Context()
		a, b := media("a", 1), media("b", 1)
		w.put(a)
		w.put(b)
		n, err := w.Delete(ctx, []Ref{a.Ref, {ours, "none"}})
		if err != nil || n != 1 || w.gone(a.Hash) {
			t.Fatalf("deleted %d %v", n, err)
		}
		if taken, err := w.TakeChecks(ctx, 10, 60_000); err != nil || len(taken) != 0 {
			t.Fatalf("after the look: %v %v", taken, err)
		}
		if n, err = w.DeleteIdle(ctx, []Ref{b.Ref}, now+1); n != 1 || err != nil {
			t.Fatalf("deleted %d %v", n, err)
		}
		if n, err := w.Usage(ctx, alice); n != 0 || err != nil {
			t.Errorf("usage %d %v", n, err)
		}
		for _, want := range []int{1, 0} { // whoever comes second does not get it
			if taken, err := w.TakeChecks(ctx, 10, 60_000); err != nil || len(taken) != want {
				t.Errorf("taken %v %v", taken, err)
			}
		}
		_, err = w.Claim(ctx, "late", Blob{a.Hash, "g", 10}, 60_000)
		w.ok(err)
		if w.gone(a.Hash) {
			t.Error("what is claimed is removed")
		}
		w.ok(w.Release(ctx, "late"))
		blob, doomed, err := w.Doom(ctx, a.Hash)
		if err != nil || !doomed || blob.Generation != "g" {
			t.Fatalf("%v %v %v", blob, doomed, err)
		}
		_, err = w.Claim(ctx, "too late", Blob{a.Hash, "h", 10}, 60_000)
		w.is(err, ErrDoomed)
		if _, again, err := w.Doom(ctx, a.Hash); !again || err != nil { // who takes it up after a crash
			t.Error(again, err)
		}
		w.ok(w.Forget(ctx, blob))
		anew, err := w.Claim(ctx, "new", Blob{a.Hash, "h", 10}, 60_000)
		if err != nil || anew.Generation != "h" {
			t.Fatal(anew, err)
		}
		w.ok(w.Forget(ctx, blob)) // comes late
		w.ok(w.Commit(ctx, "new", a, false, 0))
	})
}

// TestClaimEnds: an upload that never ends does not keep its bytes.
func TestClaimEnds(t *testing.T) {
	engines(t, func(w *world) {
		ctx := w.Context()
		_, err := w.Claim(ctx, "c", Blob{hash(1), "g", 10}, 0)
		w.ok(err)
		w.is(w.Commit(ctx, "c", media("a", 1), false, 0), ErrClaimLost)
		for taken := []string(nil); len(taken) == 0; {
			taken, err = w.TakeChecks(ctx, 10, 60_000)
			w.ok(err)
		}
		if !w.gone(hash(1)) {
			t.Error("it is kept")
		}
	})
}

func TestThumbnails(t *testing.T) {
	engines(t, func(w *world) {
		ctx := w.Context()
		w.put(media("a", 1))
		thumbnail := Thumbnail{Source: hash(1), Width: 32, Height: 32, Method: "crop", Blob: Blob{hash(2), "g", 3}, ContentType: "image/png"}
		put := func(claim string) error {
			_, err := w.Claim(ctx, claim, thumbnail.Blob, 60_000)
			w.ok(err)
			return w.PutThumbnail(ctx, claim, thumbnail)
		}
		w.ok(put("1"))
		w.ok(put("2"))
		list, err := w.Thumbnails(ctx, hash(1))
		if err != nil || len(list) != 1 || list[0] != thumbnail || w.gone(hash(2)) {
			t.Fatalf("%+v %v", list, err)
		}
		if _, err := w.Delete(ctx, []Ref{{ours, "a"}}); err != nil || !w.gone(hash(1)) || !w.gone(hash(2)) {
			t.Errorf("thumbnails outlive what they are of: %v", err)
		}
		w.is(put("3"), ErrGone)
		// An image that is its own thumbnail does not keep itself.
		w.put(media("b", 4))
		_, err = w.Claim(ctx, "4", Blob{hash(4), "g", 10}, 60_000)
		w.ok(err)
		w.ok(w.PutThumbnail(ctx, "4", Thumbnail{Source: hash(4), Width: 800, Height: 600, Method: "scale", Blob: Blob{hash(4), "g", 10}, ContentType: "image/png"}))
		if _, err := w.Delete(ctx, []Ref{{ours, "b"}}); err != nil || !w.gone(hash(4)) {
			w.Errorf("it is kept: %v", err)
		}
	})
}

func TestModeration(t *testing.T) {
	engines(t, func(w *world) {
		ctx := w.Context()
		theirs := media("r", 2)
		theirs.Server, theirs.UserID, theirs.Kind = "evil", "", Remote
		for _, m := range []Media{media("a", 1), media("b", 1), media("c", 3), theirs} {
			w.put(m)
		}
		count := func(s Selection, to bool, want int64) {
			t.Helper()
			if n, err := w.Set(ctx, s, Quarantined, to, now); n != want || err != nil {
				t.Errorf("%+v to %v: %d %v, want %d", s, to, n, err, want)
			}
		}
		count(Selection{Refs: []Ref{{ours, "a"}, {ours, "none"}}}, true, 1)
		count(Selection{Hash: hash(1)}, true, 1)
		_, err := w.Claim(ctx, "x", Blob{hash(1), "g", 10}, 60_000)
		w.is(err, ErrBlocked)
		count(Selection{UserID: alice}, true, 1)
		count(Selection{UserID: alice}, false, 3)
		count(Selection{Hash: hash(1)}, false, 0)
		_, err = w.Claim(ctx, "x", Blob{hash(1), "g", 10}, 60_000)
		w.ok(err)
		count(Selection{Hash: hash(1)}, true, 2) // while somebody uploads it
		w.is(w.Commit(ctx, "x", media("d", 1), false, 0), ErrBlocked)
		count(Selection{Server: "evil"}, true, 1)
		if blocked, err := w.ServerBlocked(ctx, "evil"); !blocked || err != nil {
			t.Error(blocked, err)
		}
		count(Selection{Server: "evil"}, false, 1)
		if blocked, err := w.ServerBlocked(ctx, "evil"); blocked || err != nil {
			t.Error(blocked, err)
		}
		if _, err := w.Set(ctx, Selection{}, Quarantined, true, now); err == nil {
			t.Error("nothing is everything")
		}
		if n, err := w.Set(ctx, Selection{Refs: []Ref{{ours, "c"}}}, Protected, true, now); n != 1 || err != nil {
			t.Error(n, err)
		}
		if list, err := w.Selected(ctx, Selection{UserID: alice}, 2); len(list) != 2 || err != nil {
			t.Error(list, err)
		}
		// Neither what is quarantined nor what is protected goes for its age.
		idle, err := w.Idle(ctx, Upload, now+1, Media{}, 10)
		if err != nil || len(idle) != 0 {
			t.Errorf("%v %v", idle, err)
		}
		idle, err = w.Idle(ctx, Remote, now+1, Media{}, 10)
		if err != nil || len(idle) != 1 {
			t.Fatalf("%v %v", idle, err)
		}
		if more, err := w.Idle(ctx, Remote, now+1, idle[0], 10); len(more) != 0 || err != nil {
			t.Errorf("%v %v", more, err)
		}
		if n, err := w.DeleteIdle(ctx, []Ref{{ours, "a"}, {ours, "c"}}, now+1); n != 0 || err != nil {
			t.Errorf("deleted %d %v", n, err)
		}
	})
}

func TestPreviews(t *testing.T) {
	engines(t, func(w *world) {
		ctx := w.Context()
		w.ok(w.PutPreview(ctx, "u", "{}", now))
		w.ok(w.PutPreview(ctx, "u", `{"a":1}`, now+10))
		if r, ok, err := w.Preview(ctx, "u", now+9); r != `{"a":1}` || !ok || err != nil {
			t.Error(r, ok, err)
		}
		if _, ok, err := w.Preview(ctx, "u", now+10); ok || err != nil {
			t.Error(ok, err)
		}
		w.ok(w.DropPreviews(ctx, now+10))
		if _, ok, err := w.Preview(ctx, "u", now); ok || err != nil {
			t.Error(ok, err)
		}
	})
}

func TestJobs(t *testing.T) {
	engines(t, func(w *world) {
		take := func(owner string, ttl int64, want bool) {
			t.Helper()
			if ok, err := w.TakeJob(w.Context(), "j", owner, ttl); ok != want || err != nil {
				t.Errorf("%s: %v %v", owner, ok, err)
			}
		}
		take("a", 60_000, true)
		take("b", 60_000, false)
		take("a", 60_000, true)
		w.ok(w.FinishJob(w.Context(), "j", "b", 0))
		take("b", 60_000, false)
		w.ok(w.FinishJob(w.Context(), "j", "a", 60_000))
		take("b", 60_000, false)
		take("a", 60_000, false)
	})
}

// TestTogether: uploads and deletions of the same bytes at one time leave no media
// without bytes.
func TestTogether(t *testing.T) {
	engines(t, func(w *world) {
		var wg sync.WaitGroup
		for n := range 4 {
			wg.Go(func() {
				for i := range 10 {
					m := media(fmt.Sprintf("m%d-%d", n, i), 1)
					if !w.upload(m) {
						return
					}
					if i%2 == 0 {
						if _, err := w.Delete(context.Background(), []Ref{m.Ref}); err != nil {
							t.Error(err)
						}
					}
					b, doomed, err := w.Doom(context.Background(), m.Hash)
					if err == nil && doomed {
						err = w.Forget(context.Background(), b)
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if _, ok, err := w.Blob(w.Context(), hash(1)); !ok || err != nil {
			t.Errorf("media are there, and their bytes are not: %v", err)
		}
		if bytes, err := w.Usage(w.Context(), alice); bytes != 4*5*10 || err != nil {
			t.Errorf("usage %d %v", bytes, err)
		}
	})
}

func (w *world) upload(m Media) bool {
	for {
		_, err := w.Claim(context.Background(), m.ID, Blob{m.Hash, "g", m.Size}, 60_000)
		if errors.Is(err, ErrDoomed) {
			continue
		}
		if err == nil {
			err = w.Commit(context.Background(), m.ID, m, false, 0)
		}
		if err != nil {
			w.Error(err)
		}
		return err == nil
	}
}
