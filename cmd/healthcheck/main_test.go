package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	status := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, "what it says\n")
	}))
	if err := run([]string{s.URL}); err != nil {
		t.Fatal(err)
	}
	status = http.StatusServiceUnavailable
	if err := run([]string{s.URL}); err == nil || !strings.Contains(err.Error(), "what it says") {
		t.Errorf("not ready: got %v", err)
	}
	s.Close()
	for name, arguments := range map[string][]string{"nobody there": {s.URL}, "no URL": nil, "too many": {s.URL, s.URL}} {
		if err := run(arguments); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
