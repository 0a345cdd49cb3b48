package clientapi

import (
	"context"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// echoLog is a log at whose other end somebody answers at once: what is left
// is the cost of this package.
type echoLog struct {
	eventlog.Log
	writer *Writer
	last   []byte
}

func (l *echoLog) Append(_ context.Context, messages ...eventlog.Message) ([]int64, error) {
	l.last = messages[0].Value
	rec, _, err := api.DecodeInput(l.last)
	if err != nil {
		return nil, err
	}
	l.writer.wait.answer(&api.Verdict{RequestID: rec.RequestID, Status: api.StatusAccepted, EventIDs: []string{"$event"}})
	return nil, nil
}

// BenchmarkSend is the handler of a send without log, room server and edge
// (but with the decoding of the record at the log's other end).
func BenchmarkSend(b *testing.B) {
	cfg := config.Writer{}
	cfg.Defaults()
	w := &Writer{
		config: cfg, serverName: "test", partitions: 16, logger: quiet(), slots: make(chan struct{}, cfg.MaxInFlight),
		wait: waiting{of: map[string][]chan *api.Verdict{}}, metrics: newWriterMetrics(),
	}
	w.log = &echoLog{writer: w}
	s := &Server{writer: w, serverName: "test"}
	device := &httpapi.Device{UserID: "@alice:test", DeviceID: "DEVICE"}
	body := `{"body":"` + strings.Repeat("hello ", 20) + `","msgtype":"m.text"}`
	r := httptest.NewRequest("PUT", "/", nil)
	r.SetPathValue("roomId", "!uyzLG_pgY_K5rcUq3fiAtpV4a0BNB_sG7W31KogFSUM")
	r.SetPathValue("eventType", "m.room.message")
	r.SetPathValue("txnId", "m1700000000000.1")
	b.ReportAllocs()
	for b.Loop() {
		r.Body = io.NopCloser(strings.NewReader(body))
		if _, err := s.send(&httpapi.Request{Request: r, Device: device}); err != nil {
			b.Fatal(err)
		}
	}
}
