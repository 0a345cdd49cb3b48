package e2e

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// databaseURL is where the cluster's stores are.
func (c *cluster) databaseURL() string {
	i := slices.IndexFunc(c.env, func(v string) bool { return strings.HasPrefix(v, "DENDRITE_DATABASE_URL=") })
	_, url, _ := strings.Cut(c.env[i], "=")
	return url
}

// backUp dumps one component's schema while all goes on, and returns what puts it
// back, which is for a time when nothing runs.
// It is one whose grows has grown since.
func (c *cluster) backUp(t *testing.T, postgres, schema, grows string) (restore func()) {
	t.Helper()
	file := filepath.Join(t.TempDir(), schema)
	run := func(tool string, args ...string) {
		t.Helper()
		if out, err := exec.Command(filepath.Join(programsOf(t, postgres), tool), args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", tool, err, out)
		}
	}
	run("pg_dump", "--format=custom", "--schema="+schema, "--file="+file, c.databaseURL())
	return func() {
		t.Helper()
		db, err := sql.Open("postgres", c.databaseURL())
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		size := func() (n int) {
			t.Helper()
			if err := db.QueryRowContext(t.Context(), "SELECT "+grows).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := size()
		if _, err := db.ExecContext(t.Context(), "DROP SCHEMA "+schema+" CASCADE"); err != nil {
			t.Fatal(err)
		}
		run("pg_restore", "--exit-on-error", "--dbname="+c.databaseURL(), file)
		if now := size(); now >= before {
			t.Errorf("%s is not older: %s was %d and is %d", schema, grows, before, now)
		}
	}
}

// programsOf is the folder of the programs of a PostgreSQL server that runs.
func programsOf(t *testing.T, dir string) string {
	t.Helper()
	pid, _, _ := strings.Cut(says(t, dir, "data/postmaster.pid"), "\n")
	program, err := os.Readlink(filepath.Join("/proc", pid, "exe"))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(program)
}

// TestStoresRestored puts each component's store back to an earlier copy, made
// while all went on, beside the others and the log as they are: the rows of the
// table in docs/backup.md that are about one store.
func TestStoresRestored(t *testing.T) {
	postgres := must(t, shared.postgres)
	c := startCluster(t, clusterOptions{})
	k := newTalk(t, c)
	k.say(t, 2, true)
	later := &since{t: t, c: c, talk: k}
	for _, test := range []struct {
		schema, grows string
		check         func(name string)
	}{
		{"syncapi", "sum(seq) FROM syncapi.offsets", later.nothingLost},
		{"directoryapi", "count(*) FROM directoryapi.aliases", later.aliasLost},
		{"searchapi", "count(*) FROM searchapi.events", later.nothingLost},
		{"roomserver", "count(*) FROM roomserver.events", later.nothingLost},
		{"userapi", "count(*) FROM userapi.accounts", later.usersLost},
	} {
		restore := c.backUp(t, postgres, test.schema, test.grows)
		name := "late-" + test.schema
		later.happens(name)
		k.say(t, 10, true)
		k.say(t, 2, false)
		c.stop()
		restore()
		c.startAll()
		k.say(t, 2, true)
		k.whole(t)
		test.check(name)
		if t.Failed() {
			t.Fatalf("when %s was put back", test.schema)
		}
	}
}

// since is what happens after a backup, but for the talk.
type since struct {
	t    *testing.T
	c    *cluster
	talk *talk
}

func alias(name string) string { return "/directory/room/" + url.PathEscape("#"+name+":localhost") }

func (s *since) note() string {
	return "/user/" + url.PathEscape(s.talk.bob.id) + "/account_data/org.example.note"
}

// happens makes an account, an alias, account data and a room with a name.
func (s *since) happens(name string) {
	s.t.Helper()
	carol := register(s.t, s.c, name)
	carol.join(s.t, s.talk.room)
	s.talk.alice.call(s.t, "PUT", alias(name), object{"room_id": s.talk.room})
	s.talk.bob.call(s.t, "PUT", s.note(), object{"note": name})
	s.talk.bob.createRoom(s.t, object{"name": "Room of " + name})
}

// knows tells what is there of that: the account, the alias and the note.
func (s *since) knows(name string) (account, named bool, note string) {
	s.t.Helper()
	login := object{"type": "m.login.password", "password": "correct horse", "identifier": object{"type": "m.id.user", "user": name}}
	for _, ask := range []struct {
		u            *user
		method, path string
		body         any
		is           *bool
		not          int
	}{
		{anonymous(s.c), "POST", "/login", login, &account, 403},
		{s.talk.bob, "GET", alias(name), nil, &named, 404},
	} {
		a, err := ask.u.try(ask.method, ask.path, ask.body)
		if err != nil || a.status != 200 && a.status != ask.not {
			s.t.Fatalf("%s %s: %+v %v", ask.method, ask.path, a, err)
		}
		*ask.is = a.status == 200
	}
	return account, named, s.talk.bob.call(s.t, "GET", s.note(), nil).str("note")
}

func (s *since) expect(name string, account, named, noted bool) {
	s.t.Helper()
	a, n, note := s.knows(name)
	if a != account || n != named || (note == name) != noted {
		s.t.Errorf("%s: the account is there: %v, the alias: %v, the note is %q", name, a, n, note)
	}
	if ids, _ := s.talk.bob.searching(s.t, "", object{"search_term": "room of " + name}); len(ids) != 1 {
		s.t.Errorf("%s: the room is found by its name: %v", name, ids)
	}
}

func (s *since) nothingLost(name string) { s.expect(name, true, true, true) }

// aliasLost: the alias is, and can be made again.
func (s *since) aliasLost(name string) {
	s.t.Helper()
	s.expect(name, true, false, true)
	s.talk.alice.call(s.t, "PUT", alias(name), object{"room_id": s.talk.room})
	s.nothingLost(name)
}

// usersLost: accounts and what belongs to users are as they were in the copy, who
// has lost an account makes it again, and readers are told what is current.
func (s *since) usersLost(name string) {
	s.t.Helper()
	s.expect(name, false, true, false)
	before := s.talk.bob.syncOnce(s.t, "", "0")
	if notes := fmt.Sprint(dig(before.body, "account_data", "events")); strings.Contains(notes, name) {
		s.t.Errorf("sync tells account data that is gone: %v", notes)
	}
	register(s.t, s.c, name).send(s.t, s.talk.room, "again", "I have joined before")
	s.talk.bob.call(s.t, "PUT", s.note(), object{"note": name})
	for token := before.str("next_batch"); ; {
		a := s.talk.bob.syncOnce(s.t, token, "5000")
		if strings.Contains(fmt.Sprint(dig(a.body, "account_data", "events")), name) {
			return
		}
		if token == a.str("next_batch") {
			s.t.Fatalf("account data of now does not come: %v", a.body)
		}
		token = a.str("next_batch")
	}
}
