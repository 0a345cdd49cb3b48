package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/roomserver/api"
)

// BenchmarkStateBetweenProcesses is the state of a room with 1,000 entries on its
// way from one process to another.
func BenchmarkStateBetweenProcesses(b *testing.B) {
	var state api.StateResponse
	for i := range 1000 {
		key := fmt.Sprint("key", i)
		builder := gomatrixserverlib.EventBuilder{RoomID: "!room:example.org", Sender: "@alice:example.org", Type: "org.example.state", StateKey: &key,
			Content: jsontext.Value(`{"a_member":"with some content","another":12345}`), Depth: int64(i), OriginServerTS: 1700000000000,
			PrevEvents: []string{"$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
			AuthEvents: []string{"$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "$baaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "$caaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}
		e, err := builder.Build("11")
		if err != nil {
			b.Fatal(err)
		}
		state.Events = append(state.Events, &api.StoredEvent{Event: e, Position: api.Position{Seq: int64(i)}, HistoryVisibility: "shared"})
	}
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	server := rpc.NewServer()
	api.QueryState.Serve(server, func(context.Context, *api.StateRequest) (*api.StateResponse, error) { return &state, nil })
	handler, err := rpc.NewHTTPHandler(rpc.HandlerOptions{Server: server, Secret: "asecretofsomelength", Logger: logrus.NewEntry(logger)})
	if err != nil {
		b.Fatal(err)
	}
	at := httptest.NewServer(handler)
	defer at.Close()
	caller, err := rpc.NewHTTPClient(rpc.ClientOptions{Secret: "asecretofsomelength", Logger: logrus.NewEntry(logger),
		Address: func(context.Context, string, string) (string, error) { return at.URL, nil }})
	if err != nil {
		b.Fatal(err)
	}
	defer caller.Close()
	b.ReportAllocs()
	for b.Loop() {
		res, err := api.QueryState.Call(b.Context(), caller, &api.StateRequest{RoomID: "!room:example.org"})
		if err != nil || len(res.Events) != len(state.Events) {
			b.Fatal(res, err)
		}
	}
}
