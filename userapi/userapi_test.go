package userapi

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/userapi/api"
)

func newServer(t *testing.T, log eventlog.Log, db *sqldb.DB) *Server {
	t.Helper()
	logger := logrus.New()
	logger.SetOutput(t.Output())
	s, err := New(t.Context(), Deps{ServerName: "test", Log: log, DB: db, Logger: logrus.NewEntry(logger)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openLog(t *testing.T, name string) eventlog.Log {
	t.Helper()
	log, err := eventlog.OpenEmbedded(t.Context(), filepath.Join(t.TempDir(), name), eventlog.EmbeddedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	return log
}

// TestPublished: user.output has every change in order, and gets again what it
// lost.
func TestPublished(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldb.Options{URL: "file:" + filepath.Join(t.TempDir(), "users.db"), Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	const user, changes = "@a:test", 20
	partition := eventlog.PartitionFor(user, api.UserOutputPartitions)
	for _, name := range []string{"first.db", "lost.db"} {
		log := openLog(t, name)
		s := newServer(t, log, db)
		for i := range changes {
			if _, err := s.putAccountData(t.Context(), &api.PutAccountDataRequest{UserID: user, Type: "t", Content: jsontext.Value(fmt.Sprintf(`{"n":%d}`, i))}); err != nil {
				t.Fatal(err)
			}
		}
		heads, err := s.db.Heads(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), 20*time.Second)
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		for next := int64(0); next < heads[partition]; {
			records, err := log.Read(ctx, api.TopicUserOutput, partition, next, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				var c api.UserChange
				if err := json.Unmarshal(r.Value, &c); err != nil || c.Seq != next+1 {
					t.Fatal(c, err)
				}
				next++
			}
		}
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// TestTokenCache: a token is unknown as soon as its session ends.
func TestTokenCache(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldb.Options{URL: "file:" + filepath.Join(t.TempDir(), "users.db"), Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	s := newServer(t, openLog(t, "log.db"), db)
	session, err := s.register(t.Context(), &api.RegisterRequest{UserID: "@a:test", Password: "p"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.verifyToken(t.Context(), &api.VerifyTokenRequest{Token: session.AccessToken}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.deleteDevices(t.Context(), &api.DeleteDevicesRequest{UserID: "@a:test", All: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.verifyToken(t.Context(), &api.VerifyTokenRequest{Token: session.AccessToken}); !matrixerror.Is(err, "M_UNKNOWN_TOKEN") {
		t.Fatal(err)
	}
}
