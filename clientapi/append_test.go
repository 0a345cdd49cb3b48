package clientapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// answering is the other end of a Writer: it reads room.input and answers each
// record as told.
type answering struct {
	t      *testing.T
	log    eventlog.Log
	writer *Writer
	asked  atomic.Int64
	// stored is what QueryVerdict answers.
	stored atomic.Pointer[api.Verdict]
}

func quiet() *logrus.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

func openLog(t *testing.T) eventlog.Log {
	t.Helper()
	log, err := eventlog.OpenEmbedded(t.Context(), filepath.Join(t.TempDir(), "log.db"), eventlog.EmbeddedOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// newAnswering starts a Writer of a log with one partition; answer returns nil
// for records that are not answered.
func newAnswering(t *testing.T, cfg config.Writer, answer func(*api.InputRecord, [][]byte) *api.Verdict) *answering {
	t.Helper()
	a := &answering{t: t, log: openLog(t)}
	server := rpc.NewServer()
	api.QueryVerdict.Serve(server, func(context.Context, *api.VerdictRequest) (*api.VerdictResponse, error) {
		a.asked.Add(1)
		return &api.VerdictResponse{Verdict: a.stored.Load()}, nil
	})
	var err error
	a.writer, err = NewWriter(t.Context(), WriterDeps{
		Config: cfg, ServerName: "test", Log: a.log, Caller: server, Partitions: 1, Logger: quiet(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- a.writer.Run(ctx) }()
	go func() { done <- a.run(ctx, answer) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil && !errors.Is(err, eventlog.ErrClosed) {
				t.Error(err)
			}
		}
		if err := a.log.Close(); err != nil && !errors.Is(err, eventlog.ErrClosed) {
			t.Error(err)
		}
	})
	return a
}

func (a *answering) run(ctx context.Context, answer func(*api.InputRecord, [][]byte) *api.Verdict) error {
	for next := int64(0); ; {
		records, err := a.log.Read(ctx, api.TopicInput, 0, next, 1<<20)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		for _, r := range records {
			next = r.Offset + 1
			rec, lines, err := api.DecodeInput(r.Value)
			if err != nil {
				return err
			}
			v := answer(rec, lines)
			if v == nil {
				continue
			}
			v.V, v.RequestID = 1, rec.RequestID
			value, err := v.Encode()
			if err != nil {
				return err
			}
			if _, err := a.log.Append(ctx, eventlog.Message{Topic: api.TopicAnswers, Partition: rec.Answer, Value: value}); err != nil {
				return err
			}
		}
	}
}

func accepted(rec *api.InputRecord, _ [][]byte) *api.Verdict {
	return &api.Verdict{Status: api.StatusAccepted, EventIDs: []string{"$" + rec.RequestID}}
}

func unanswered(*api.InputRecord, [][]byte) *api.Verdict { return nil }

func TestAppendFillsInAndAnswers(t *testing.T) {
	var seen atomic.Pointer[api.InputRecord]
	a := newAnswering(t, config.Writer{}, func(rec *api.InputRecord, lines [][]byte) *api.Verdict {
		if len(lines) != 1 || string(lines[0]) != `{"x":1}` {
			t.Errorf("lines %q", lines)
		}
		seen.Store(rec)
		return accepted(rec, nil)
	})
	v, err := a.writer.Append(t.Context(), &api.InputRecord{RoomID: "!r:test", Events: []api.InputEvent{{EventID: "$e"}}}, []byte(`{"x":1}`))
	if err != nil {
		t.Fatal(err)
	}
	rec := seen.Load()
	if v.EventIDs[0] != "$"+rec.RequestID || rec.V != 1 || rec.Answer != a.writer.partition || rec.Origin != "test" || rec.Kind != api.KindNew ||
		rec.RequestID == "" || time.Since(time.UnixMilli(rec.TS)) > time.Minute {
		t.Errorf("record %+v, verdict %+v", rec, v)
	}
}

func TestAppendVerdicts(t *testing.T) {
	tests := []struct {
		verdict api.Verdict
		status  int
		code    string
	}{
		{api.Verdict{Status: api.StatusAccepted}, 0, ""},
		{api.Verdict{Status: api.StatusRefused}, 403, "M_FORBIDDEN"},
		{api.Verdict{Status: api.StatusRefused, HTTPStatus: 400, Code: "M_BAD_JSON", Message: "100%"}, 400, "M_BAD_JSON"},
		{api.Verdict{Status: api.StatusRefused, HTTPStatus: 503, Code: "M_UNKNOWN"}, 503, "M_UNKNOWN"},
		{api.Verdict{Status: api.StatusRejected, Rule: "5.3"}, 403, "M_FORBIDDEN"},
		{api.Verdict{Status: api.StatusSoftFailed}, 403, "M_FORBIDDEN"},
		{api.Verdict{Status: api.StatusMissing}, 503, "M_UNKNOWN"},
		{api.Verdict{Status: "nonsense"}, 0, "?"},
	}
	for _, tt := range tests {
		a := newAnswering(t, config.Writer{}, func(*api.InputRecord, [][]byte) *api.Verdict { v := tt.verdict; return &v })
		_, err := a.writer.Append(t.Context(), &api.InputRecord{RoomID: "!r:test"})
		e := matrixerror.From(err)
		switch {
		case tt.code == "" && err != nil, tt.code == "?" && (err == nil || e != nil):
			t.Errorf("%+v: %v", tt.verdict, err)
		case tt.code == "" || tt.code == "?":
		case e == nil || e.Status != tt.status || e.Code != tt.code:
			t.Errorf("%+v: %v", tt.verdict, err)
		case e.Status == 503 && e.RetryAfter == 0:
			t.Errorf("%+v: no time to retry", tt.verdict)
		case tt.verdict.Message != "" && e.Message != tt.verdict.Message:
			t.Errorf("%+v: message %q", tt.verdict, e.Message)
		}
	}
}

func TestAppendRetryWhileWaiting(t *testing.T) {
	both := make(chan struct{}, 2)
	a := newAnswering(t, config.Writer{}, func(rec *api.InputRecord, _ [][]byte) *api.Verdict {
		both <- struct{}{}
		if len(both) < 2 {
			return nil // the first is answered with the second
		}
		return accepted(rec, nil)
	})
	results := make(chan error, 2)
	for range 2 {
		go func() {
			v, err := a.writer.Append(t.Context(), &api.InputRecord{RoomID: "!r:test", RequestID: "same"})
			if err == nil && v.EventIDs[0] != "$same" {
				err = errors.New("another event")
			}
			results <- err
		}()
	}
	for range 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if len(a.writer.wait.of) != 0 {
		t.Errorf("left behind: %v", a.writer.wait.of)
	}
}

func TestAppendTimeoutAsks(t *testing.T) {
	a := newAnswering(t, config.Writer{AnswerTimeout: 20 * time.Millisecond}, unanswered)
	_, err := a.writer.Append(t.Context(), &api.InputRecord{RoomID: "!r:test"})
	if e := matrixerror.From(err); e == nil || e.Status != 504 || e.RetryAfter == 0 || a.asked.Load() == 0 {
		t.Errorf("%v, asked %d times", err, a.asked.Load())
	}
	a.stored.Store(&api.Verdict{Status: api.StatusAccepted, EventIDs: []string{"$late"}})
	v, err := a.writer.Append(t.Context(), &api.InputRecord{RoomID: "!r:test"})
	if err != nil || v.EventIDs[0] != "$late" {
		t.Errorf("%v, %v", v, err)
	}
}

func TestAppendOverload(t *testing.T) {
	release := make(chan struct{})
	arrived := make(chan struct{}, 1)
	a := newAnswering(t, config.Writer{MaxInFlight: 1}, func(rec *api.InputRecord, _ [][]byte) *api.Verdict {
		arrived <- struct{}{}
		<-release
		return accepted(rec, nil)
	})
	first := make(chan error, 1)
	go func() {
		_, err := a.writer.Append(t.Context(), &api.InputRecord{RoomID: "!r:test"})
		first <- err
	}()
	<-arrived
	_, err := a.writer.Append(t.Context(), &api.InputRecord{RoomID: "!r:test"})
	if e := matrixerror.From(err); e == nil || e.Status != 503 || e.RetryAfter == 0 {
		t.Errorf("second: %v", err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Errorf("first: %v", err)
	}
	go func() { <-arrived }()
	if _, err := a.writer.Append(t.Context(), &api.InputRecord{RoomID: "!r:test"}); err != nil {
		t.Errorf("third: %v", err)
	}
}

func TestAppendGivenUp(t *testing.T) {
	a := newAnswering(t, config.Writer{}, unanswered)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.writer.Append(ctx, &api.InputRecord{RoomID: "!r:test"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	big := api.InputRecord{RoomID: "!r:test", Events: []api.InputEvent{{EventID: strings.Repeat("x", eventlog.MaxRecordBytes)}}}
	if _, err := a.writer.Append(t.Context(), &big); !matrixerror.Is(err, "M_TOO_LARGE") {
		t.Errorf("too large: %v", err)
	}
	if err := a.log.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := a.writer.Append(t.Context(), &api.InputRecord{RoomID: "!r:test"})
	if e := matrixerror.From(err); e == nil || e.Status != 503 {
		t.Errorf("closed log: %v", err)
	}
}

// TestWritersShareAnswers: instances that have the same partition of
// room.answers get their own verdicts, and a verdict that one has lost is the
// one that the retry at another gets.
func TestWritersShareAnswers(t *testing.T) {
	a := newAnswering(t, config.Writer{}, accepted)
	others := []*Writer{a.writer}
	for range 3 {
		w, err := NewWriter(t.Context(), WriterDeps{ServerName: "test", Log: a.log, Caller: rpc.NewServer(), Partitions: 1, Logger: quiet()})
		if err != nil {
			t.Fatal(err)
		}
		w.partition, w.next = a.writer.partition, 0
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		others = append(others, w)
	}
	results := make(chan error)
	for i := range 100 {
		id := fmt.Sprintf("r%d", i)
		go func() {
			v, err := others[i%len(others)].Append(t.Context(), &api.InputRecord{RoomID: "!r:test", RequestID: id})
			if err == nil && v.EventIDs[0] != "$"+id {
				err = fmt.Errorf("%s got %v", id, v.EventIDs)
			}
			results <- err
		}()
	}
	for range 100 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}

// TestAppendAsksMeanwhile: a verdict that is lost is had by asking, long before
// the time is up.
func TestAppendAsksMeanwhile(t *testing.T) {
	a := newAnswering(t, config.Writer{AnswerTimeout: time.Minute}, unanswered)
	a.writer.config.AnswerTimeout = firstAsk * 50 * time.Millisecond
	a.stored.Store(&api.Verdict{Status: api.StatusAccepted, EventIDs: []string{"$lost"}})
	v, err := a.writer.Append(t.Context(), &api.InputRecord{RoomID: "!r:test"})
	if err != nil || v.EventIDs[0] != "$lost" || a.asked.Load() != 1 {
		t.Errorf("%v, %v, asked %d times", v, err, a.asked.Load())
	}
}

func BenchmarkAppendRecord(b *testing.B) {
	content := []byte(`{"body":"hello world, how are you today?","msgtype":"m.text"}`)
	w := &Writer{serverName: "test"}
	b.ReportAllocs()
	for b.Loop() {
		rec := &api.InputRecord{RequestID: "request", RoomID: "!room:test", Events: []api.InputEvent{{
			Device: "D", TxnID: "1", Proto: &api.Proto{Type: "m.room.message", Sender: "@a:test", Content: content},
		}}}
		w.complete(rec)
		if _, err := rec.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}
