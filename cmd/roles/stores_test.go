package roles

import (
	"context"
	"errors"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/sqldb/sqldbtest"
)

// running is a process with all roles.
type running struct {
	t      *testing.T
	stop   context.CancelFunc
	at     chan Addresses
	done   chan error
	logged chan string
}

// Fire and Levels implement logrus.Hook.
func (r *running) Fire(e *logrus.Entry) error {
	select {
	case r.logged <- e.Message:
	default: // nobody waits for so many
	}
	return nil
}

func (*running) Levels() []logrus.Level { return logrus.AllLevels }

// configuration is one of a server that listens on any port.
func configuration(t *testing.T) *config.Dendrite {
	c := config.Default()
	c.Global.DataDir, c.Global.ServerName, c.Global.PrivateKey = t.TempDir(), "localhost", t.TempDir()+"/signing.key"
	c.HTTP.Listen = "127.0.0.1:0"
	return c
}

// launch runs the roles named, or all.
func launch(t *testing.T, c *config.Dendrite, names ...string) *running {
	ctx, stop := context.WithCancel(context.Background())
	r := &running{t: t, stop: stop, at: make(chan Addresses, 1), done: make(chan error, 1), logged: make(chan string, 1000)}
	logger := logrus.New()
	logger.SetOutput(t.Output())
	logger.AddHook(r)
	go func() { r.done <- Run(ctx, c, logger, names, func(at Addresses) { r.at <- at }) }()
	t.Cleanup(func() { // twice does no harm
		stop()
		<-r.done
	})
	return r
}

// soon bounds what waits for nobody, on a busy machine.
const soon = 20 * time.Second

// ends waits for the end, and what it was.
func (r *running) ends() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case at := <-r.at:
		r.t.Fatalf("it runs, at %v", at.Public)
	case <-time.After(soon):
		r.t.Fatal("it waits")
	}
	return nil
}

// ready waits until requests are served.
func (r *running) ready() Addresses {
	r.t.Helper()
	select {
	case at := <-r.at:
		return at
	case err := <-r.done:
		r.done <- err
		r.t.Fatalf("it does not start: %v", err)
	case <-time.After(3 * soon):
		r.t.Fatal("it does not start")
	}
	return Addresses{}
}

// says waits until the process logs something.
func (r *running) says(text string) {
	r.t.Helper()
	late := time.After(soon)
	for {
		select {
		case line := <-r.logged:
			if strings.Contains(line, text) {
				return
			}
		case err := <-r.done:
			r.done <- err
			r.t.Fatalf("it ended before it said %q: %v", text, err)
		case <-late:
			r.t.Fatalf("it does not say %q", text)
		}
	}
}

// TestWrongDatabase: what waiting does not help against ends the process, with
// an error that says what it is and shows no password.
func TestWrongDatabase(t *testing.T) {
	const password = "not-the-password"
	for name, of := range map[string]struct {
		change func(*url.URL)
		want   string
	}{
		"password": {func(u *url.URL) { u.User = url.UserPassword(u.User.Username(), password) }, "password authentication failed"},
		"user":     {func(u *url.URL) { u.User = url.UserPassword("nobody-here", password) }, "nobody-here"},
		"database": {func(u *url.URL) { u.Path = "/not_there" }, `database "not_there" does not exist`},
		"collation": {func(u *url.URL) {
			u.Path = sqldbtest.DatabaseWith(t, "ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en' LOCALE 'C'")
		}, "LOCALE 'C'"},
	} {
		t.Run(name, func(t *testing.T) {
			u, err := url.Parse(sqldbtest.Server(t).URL)
			if err != nil {
				t.Fatal(err)
			}
			of.change(u)
			c := configuration(t)
			c.Database.URL = u.String()
			switch err := launch(t, c).ends(); {
			case err == nil || !strings.Contains(err.Error(), of.want) || !strings.HasPrefix(err.Error(), "room-server: "):
				t.Errorf("it ends with %v", err)
			case strings.Contains(err.Error(), password):
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
}

// TestDatabaseAway: a server that is away is waited for.
func TestDatabaseAway(t *testing.T) {
	server := sqldbtest.Private(t)
	server.Stop()
	c := configuration(t)
	c.Database.URL = server.URL
	r := launch(t, c)
	r.says("PostgreSQL cannot be reached")
	server.Start()
	r.ready()
	r.stop()
	if err := r.ends(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

// TestStopWhileWaiting: who waits for what is away ends at once when told to,
// and has nothing to complain of.
func TestStopWhileWaiting(t *testing.T) {
	for name, away := range map[string]struct {
		says   string
		change func(c *config.Dendrite, address string)
	}{
		"database": {"PostgreSQL cannot be reached", func(c *config.Dendrite, address string) {
			c.Database.URL = "postgres://dendrite:secret@" + address + "/dendrite?sslmode=disable"
		}},
		"Kafka": {"No Kafka broker answers yet", func(c *config.Dendrite, address string) { c.EventLog.Kafka.Brokers = []string{address} }},
	} {
		c := configuration(t)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		away.change(c, l.Addr().String())
		t.Run(name+" is silent", func(t *testing.T) {
			r := launch(t, c)
			conn, err := l.Accept() // takes the connection, and says nothing
			if err != nil {
				t.Fatal(err)
			}
			r.stopsAtOnce()
			if err := errors.Join(conn.Close(), l.Close()); err != nil {
				t.Error(err)
			}
		})
		t.Run(name+" refuses", func(t *testing.T) {
			r := launch(t, c)
			r.says(away.says)
			r.stopsAtOnce()
		})
	}
}

func (r *running) stopsAtOnce() {
	r.t.Helper()
	begin := time.Now()
	r.stop()
	if err := r.ends(); err != nil {
		r.t.Errorf("it ends with %v", err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		r.t.Errorf("it ends after %v", took)
	}
}
