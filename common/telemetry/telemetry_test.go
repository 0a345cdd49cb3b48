package telemetry

import (
	"bytes"
	"context"
	"errors"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/sirupsen/logrus"
)

func TestNewLogger(t *testing.T) {
	for _, bad := range [][2]string{{"loud", "text"}, {"info", "xml"}} {
		if _, err := NewLogger(bad[0], bad[1], nil); err == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
	var out bytes.Buffer
	logger, err := NewLogger("info", "json", &out)
	if err != nil {
		t.Fatal(err)
	}
	logger.WithField("room", "!a\nb").Info("first")
	logger.Debug("hidden")
	var line struct{ Level, Msg, Room, Time string }
	if err := json.Unmarshal(out.Bytes(), &line, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatalf("%q: %v", out.String(), err)
	}
	if line.Level != "info" || line.Msg != "first" || line.Room != "!a\nb" || line.Time == "" {
		t.Errorf("logged %+v", line)
	}
	out.Reset()
	logger, err = NewLogger("debug", "text", &out)
	if err != nil {
		t.Fatal(err)
	}
	logger.Debug("two\nlines")
	if n := strings.Count(out.String(), "\n"); n != 1 || !strings.Contains(out.String(), "level=debug") {
		t.Errorf("logged %q", out.String())
	}
}

func TestInternal(t *testing.T) {
	var why error
	serve := func(profiles bool, path string) (int, string) {
		i := Internal{Metrics: NewRegistry(), Profiles: profiles, Logger: logrus.NewEntry(logrus.New()),
			Ready: func(context.Context) error { return why }}
		w := httptest.NewRecorder()
		i.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String()
	}
	for _, c := range []struct {
		path     string
		profiles bool
		why      error
		status   int
		body     string
	}{
		{"/metrics", false, nil, 200, "go_goroutines"},
		{"/metrics", false, nil, 200, "process_cpu_seconds_total"},
		{"/live", false, errors.New("behind"), 200, "live"},
		{"/ready", false, nil, 200, "ready"},
		{"/ready", false, errors.New("behind"), 503, "not ready: behind"},
		{"/debug/pprof/heap", false, nil, 404, ""},
		{"/debug/pprof/heap?debug=1", true, nil, 200, "heap profile"},
		{"/", true, nil, 404, ""},
	} {
		why = c.why
		if status, body := serve(c.profiles, c.path); status != c.status || !strings.Contains(body, c.body) {
			t.Errorf("%s: %d %.200s", c.path, status, body)
		}
	}
}
