package telemetry

import (
	"bytes"
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

func TestHandler(t *testing.T) {
	w := httptest.NewRecorder()
	Handler(NewRegistry(), logrus.NewEntry(logrus.New())).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if body := w.Body.String(); w.Code != 200 || !strings.Contains(body, "go_goroutines") || !strings.Contains(body, "process_cpu_seconds_total") {
		t.Errorf("%d %s", w.Code, body)
	}
}
