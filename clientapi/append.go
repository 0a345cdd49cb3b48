package clientapi

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// Writer appends records to room.input and hands each verdict to who waits for
// it. It is safe for concurrent use.
//
// A Writer takes a partition of room.answers at random, since instances come and
// go: request IDs are unique, so those that share a partition read more and
// mistake nothing. A verdict may be lost with the room server or the log that
// had it; a request that waits asks for it, again and again within its time.
//
// A request that gets no verdict in time is answered 504: whether its record
// took effect is then unknown, and the client's retry with the same
// transaction ID has the same request ID, hence the same verdict, at any
// instance.
type Writer struct {
	config     config.Writer
	serverName string
	log        eventlog.Log
	caller     rpc.Caller
	partitions int
	partition  int   // of room.answers
	next       int64 // offset in it; Run's only
	logger     *logrus.Entry
	slots      chan struct{}
	wait       waiting
	metrics    writerMetrics
}

// WriterDeps is what a Writer is made from; see Deps.
type WriterDeps struct {
	Config     config.Writer
	ServerName string
	Log        eventlog.Log
	Caller     rpc.Caller
	Partitions int
	Logger     *logrus.Entry
	Metrics    prometheus.Registerer
}

// retryWriter is what a refused request is told to wait.
const retryWriter = time.Second

// NewWriter makes a Writer, ensures its topics and notes where room.answers
// ends: verdicts from there on are heard once Run runs.
func NewWriter(ctx context.Context, deps WriterDeps) (*Writer, error) {
	deps.Config.Defaults()
	input, err := deps.Log.EnsureTopic(ctx, api.InputTopic(deps.Partitions))
	if err != nil {
		return nil, fmt.Errorf("clientapi: %s: %w", api.TopicInput, err)
	}
	answers, err := deps.Log.EnsureTopic(ctx, api.AnswersTopic())
	if err != nil {
		return nil, fmt.Errorf("clientapi: %s: %w", api.TopicAnswers, err)
	}
	partition := rand.IntN(answers.Partitions)
	_, end, err := deps.Log.Bounds(ctx, api.TopicAnswers, partition)
	if err != nil {
		return nil, fmt.Errorf("clientapi: %s: %w", api.TopicAnswers, err)
	}
	w := &Writer{
		config:     deps.Config,
		serverName: deps.ServerName,
		log:        deps.Log,
		caller:     deps.Caller,
		partitions: input.Partitions,
		partition:  partition,
		next:       end,
		logger:     deps.Logger,
		slots:      make(chan struct{}, deps.Config.MaxInFlight),
		wait:       waiting{of: map[string][]chan *api.Verdict{}},
		metrics:    newWriterMetrics(),
	}
	return w, w.metrics.register(deps.Metrics)
}

// Append logs a record, with the lines of its full events, and returns its
// verdict once the room server has accepted it. V, Answer, Origin and, where
// they are zero, TS and RequestID are filled in.
//
// Whatever else became of the record is an error: a refusal as the room server
// worded it, 503 when nothing was or will be done, 504 when that is not known.
func (w *Writer) Append(ctx context.Context, rec *api.InputRecord, events ...[]byte) (*api.Verdict, error) {
	w.complete(rec)
	value, err := rec.Encode(events...)
	if err != nil {
		return nil, fmt.Errorf("clientapi: encoding a record: %w", err)
	}
	if len(value) > eventlog.MaxRecordBytes {
		return nil, matrixerror.TooLarge("The request makes too large a change at once")
	}
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	default:
		w.metrics.refused.Inc()
		return nil, matrixerror.Unavailable(retryWriter, "Too many requests are waiting for the room server")
	}
	began := time.Now()
	answer := make(chan *api.Verdict, 1)
	w.wait.add(rec.RequestID, answer)
	defer w.wait.remove(rec.RequestID, answer)

	message := eventlog.Message{
		Topic:     api.TopicInput,
		Partition: eventlog.PartitionFor(rec.RoomID, w.partitions),
		Key:       []byte(rec.RoomID),
		Value:     value,
	}
	if _, err := w.log.Append(ctx, message); err != nil {
		return nil, appendError(err)
	}
	verdict, err := w.verdict(ctx, rec, answer)
	if err != nil {
		return nil, err
	}
	w.metrics.seconds.Observe(time.Since(began).Seconds())
	return verdict, refusal(verdict)
}

// complete fills in what is the same for all records of ours.
func (w *Writer) complete(rec *api.InputRecord) {
	rec.V = 1
	rec.Answer = w.partition
	rec.Origin = w.serverName
	if rec.Kind == "" {
		rec.Kind = api.KindNew
	}
	if rec.TS == 0 {
		rec.TS = time.Now().UnixMilli()
	}
	if rec.RequestID == "" {
		rec.RequestID = newRequestID()
	}
}

// firstAsk is the part of the time for a verdict after which it is asked for;
// then again when twice that time has gone by, and so on.
const firstAsk = 8

// askTimeout is how long the room server may take to answer that.
const askTimeout = 2 * time.Second

// verdict waits for the answer. When none comes the room server is asked: the
// answer may have been lost with an ephemeral log, or with an owner that died
// after it had committed.
func (w *Writer) verdict(ctx context.Context, rec *api.InputRecord, answer <-chan *api.Verdict) (*api.Verdict, error) {
	began, wait := time.Now(), w.config.AnswerTimeout/firstAsk
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case v := <-answer:
			return v, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
		}
		v, err := w.ask(ctx, rec)
		if v != nil {
			return v, nil
		}
		if left := w.config.AnswerTimeout - time.Since(began); left > 0 {
			wait *= 2
			timer.Reset(min(time.Until(began.Add(wait)), left))
			continue
		}
		if err != nil {
			w.logger.WithError(err).Warn("no verdict in time, and the room server cannot be asked")
		}
		e := matrixerror.New(504, "M_UNKNOWN", "The room server has not answered yet; try again with the same transaction ID")
		e.RetryAfter = retryWriter
		return nil, e
	}
}

// ask asks for a verdict; nil when there is none yet.
func (w *Writer) ask(ctx context.Context, rec *api.InputRecord) (*api.Verdict, error) {
	w.metrics.asked.Inc()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	res, err := api.QueryVerdict.Call(ctx, w.caller, &api.VerdictRequest{RoomID: rec.RoomID, RequestID: rec.RequestID})
	if err != nil {
		return nil, err
	}
	return res.Verdict, nil
}

// refusal is the error that a verdict stands for; nil when it was accepted.
func refusal(v *api.Verdict) error {
	switch v.Status {
	case api.StatusAccepted:
		return nil
	case api.StatusRefused:
		status, code := v.HTTPStatus, v.Code
		if status == 0 {
			status = 403
		}
		if code == "" {
			code = "M_FORBIDDEN"
		}
		message := v.Message
		if message == "" {
			message = "The room does not allow it"
		}
		e := matrixerror.New(status, code, "%s", message)
		if status == 503 || status == 429 {
			e.RetryAfter = retryWriter
		}
		return e
	case api.StatusRejected, api.StatusSoftFailed:
		return matrixerror.Forbidden("The rules of the room do not allow it (%s)", v.Rule)
	case api.StatusMissing:
		return matrixerror.Unavailable(retryWriter, "The room's history is not complete yet")
	}
	return fmt.Errorf("clientapi: verdict %q is unknown", v.Status)
}

// appendError words a failed append. It may have been logged all the same:
// whoever tries again does so with the same request ID.
func appendError(err error) error {
	switch {
	case errors.Is(err, eventlog.ErrUnavailable), errors.Is(err, eventlog.ErrClosed):
		e := matrixerror.Unavailable(retryWriter, "The log cannot be written now")
		return fmt.Errorf("%w: %w", e, err)
	case errors.Is(err, eventlog.ErrTooLarge):
		return matrixerror.TooLarge("The request makes too large a change at once")
	}
	return fmt.Errorf("clientapi: appending to %s: %w", api.TopicInput, err)
}

// waiting maps request IDs to who waits for their verdicts. More than one waits
// when a client retries before the first try is answered.
type waiting struct {
	mu sync.Mutex
	of map[string][]chan *api.Verdict
}

func (w *waiting) add(id string, c chan *api.Verdict) {
	w.mu.Lock()
	w.of[id] = append(w.of[id], c)
	w.mu.Unlock()
}

func (w *waiting) remove(id string, c chan *api.Verdict) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := w.of[id]
	for i := range list {
		if list[i] == c {
			list[i] = list[len(list)-1]
			list = list[:len(list)-1]
			break
		}
	}
	if len(list) == 0 {
		delete(w.of, id)
		return
	}
	w.of[id] = list
}

// answer wakes everyone who waits for the verdict; none blocks, as each
// channel has room for the one answer that it is read for.
func (w *waiting) answer(v *api.Verdict) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.of[v.RequestID] {
		select {
		case c <- v:
		default:
		}
	}
}
