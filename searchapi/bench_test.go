package searchapi

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	roomapi "github.com/matrix-org/dendrite/roomserver/api"
	"github.com/matrix-org/dendrite/searchapi/storage"
	"github.com/matrix-org/dendrite/searchapi/words"
	syncapi "github.com/matrix-org/dendrite/syncapi/api"
)

// messages is how many there are in the index that BenchmarkSearch makes.
var messages = flag.Int("search.messages", 1_000_000, "messages of BenchmarkSearch")

const benchRooms = 1000

// corpus makes messages of ten words, of which some are in every second one and
// most in hardly any.
type corpus struct {
	random *rand.Rand
	zipf   *rand.Zipf
	n      int
}

func newCorpus() *corpus {
	random := rand.New(rand.NewPCG(1, 2))
	return &corpus{random: random, zipf: rand.NewZipf(random, 1.1, 1, 50_000)}
}

func (c *corpus) add(to *storage.Changes) {
	c.n++
	text := make([]string, 10)
	for i := range text {
		text[i] = fmt.Sprintf("Word%d", c.zipf.Uint64())
	}
	id := fmt.Sprintf("$%043d", c.n)
	to.Texts[id] = words.Terms(strings.Join(text, " "))
	to.Events[id] = storage.Event{EventID: id, RoomID: fmt.Sprintf("!room%d:example.org", c.random.IntN(benchRooms)), Sender: fmt.Sprintf("@user%d:example.org", c.random.IntN(1000)),
		TS: 1_700_000_000_000 + int64(c.n)*100, Seq: int64(c.n), Key: storage.KeyBody, Level: 1}
}

func benchStore(b *testing.B) (*storage.Database, *sqldb.DB, string) {
	path := filepath.Join(b.TempDir(), "search.db")
	db, err := sqldb.Open(b.Context(), sqldb.Options{URL: "file:" + path})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	store, err := storage.New(b.Context(), db)
	if err != nil {
		b.Fatal(err)
	}
	return store, db, path
}

func apply(b *testing.B, store *storage.Database, c *storage.Changes) {
	if err := store.Write(b.Context(), func(tx *sqldb.Tx) error { return store.Apply(b.Context(), tx, c) }); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkIndex indexes messages in batches, on SQLite.
func BenchmarkIndex(b *testing.B) {
	for _, batch := range []int{1, 10, 100} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			store, _, _ := benchStore(b)
			all := newCorpus()
			for b.Loop() {
				c := storage.NewChanges(func(string) int { return 0 })
				for range batch {
					all.add(c)
				}
				apply(b, store, c)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*batch), "µs/message")
		})
	}
}

// BenchmarkSearch searches in very many messages, on SQLite; the other roles cost
// nothing here.
func BenchmarkSearch(b *testing.B) {
	store, db, path := benchStore(b)
	all := newCorpus()
	for all.n < *messages {
		c := storage.NewChanges(func(string) int { return 0 })
		for range min(1000, *messages-all.n) {
			all.add(c)
		}
		apply(b, store, c)
	}
	if err := db.SafePoint(b.Context()); err != nil {
		b.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("%d messages, %d bytes each", all.n, info.Size()/int64(all.n))
	logger := logrus.New()
	logger.SetOutput(b.Output())
	for _, rooms := range []int{1, 40, benchRooms} {
		log, err := eventlog.OpenEmbedded(b.Context(), filepath.Join(b.TempDir(), "log.db"), eventlog.EmbeddedOptions{})
		if err != nil {
			b.Fatal(err)
		}
		s, err := New(b.Context(), Deps{Config: config.Search{}, Log: log, DB: db, Caller: others(rooms), Partitions: 1, Logger: logrus.NewEntry(logger)})
		if err != nil {
			b.Fatal(err)
		}
		for _, order := range []string{"recent", "rank"} {
			for name, term := range map[string]string{"most": "word0", "some": "word30", "two": "word1 word20", "few": "word20000"} {
				b.Run(fmt.Sprintf("rooms=%d/%s/%s", rooms, order, name), func(b *testing.B) {
					q, err := (&criteria{Term: &term, OrderBy: order}).query()
					if err != nil {
						b.Fatal(err)
					}
					q.userID = alice
					var count int64
					for b.Loop() {
						res, err := s.answer(b.Context(), q)
						if err != nil {
							b.Fatal(err)
						}
						count = res.Categories.RoomEvents.Count
					}
					b.ReportMetric(float64(count), "results")
				})
			}
		}
		if err := log.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// others are the other roles, of a user who is in some of the rooms.
func others(rooms int) *rpc.Server {
	calls := rpc.NewServer()
	reach := &syncapi.ReachResponse{}
	for i := range rooms {
		reach.Rooms = append(reach.Rooms, syncapi.Reach{RoomID: fmt.Sprintf("!room%d:example.org", i), SharedTo: storage.First})
	}
	roomapi.QueryHeads.Serve(calls, func(context.Context, *roomapi.HeadsRequest) (*roomapi.HeadsResponse, error) {
		return &roomapi.HeadsResponse{}, nil
	})
	syncapi.QueryReach.Serve(calls, func(context.Context, *syncapi.ReachRequest) (*syncapi.ReachResponse, error) { return reach, nil })
	syncapi.QueryShow.Serve(calls, func(_ context.Context, r *syncapi.ShowRequest) (*syncapi.ShowResponse, error) {
		res := &syncapi.ShowResponse{Events: make([]syncapi.Shown, len(r.Events))}
		for i := range res.Events {
			res.Events[i].Event = jsontext.Value(`{"content":{"body":"x"}}`)
		}
		return res, nil
	})
	return calls
}
