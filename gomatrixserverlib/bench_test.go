package gomatrixserverlib

import (
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// benchEvent is a signed message of about 1 KiB.
func benchEvent(b *testing.B) *Event {
	b.Helper()
	builder := testBuilder(RoomVersionV12)
	builder.Content = jsontext.Value(`{"body":"` + strings.Repeat("Lorem ipsum ", 33) + `","msgtype":"m.text"}`)
	e, err := mustBuild(b, RoomVersionV12, builder).Sign("domain", testKey(b))
	if err != nil {
		b.Fatal(err)
	}
	return e
}

func BenchmarkCanonicalJSONCanonical(b *testing.B) {
	in := benchEvent(b).JSON()
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := CanonicalJSON(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCanonicalJSONUnsorted(b *testing.B) {
	e := benchEvent(b)
	in := []byte(`{ "type": "x", ` + string(e.JSON()[1:]))
	in = []byte(strings.Replace(string(in), `,"type":"m.room.message"`, "", 1))
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := CanonicalJSON(in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	builder := testBuilder(RoomVersionV12)
	builder.Content = benchEvent(b).Content()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := builder.Build(RoomVersionV12); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	e, key := benchEvent(b), testKey(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Sign("domain", key); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifySignature(b *testing.B) {
	e, key := benchEvent(b), testKey(b)
	public := key.Public()
	b.ReportAllocs()
	for b.Loop() {
		if err := e.VerifySignature("domain", key.ID, public); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseStoredEvent(b *testing.B) {
	e := benchEvent(b)
	b.SetBytes(int64(len(e.JSON())))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseStoredEvent(e.JSON(), RoomVersionV12, e.EventID()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseEvent(b *testing.B) {
	e := benchEvent(b)
	b.SetBytes(int64(len(e.JSON())))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseEvent(e.JSON(), RoomVersionV12); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendClient(b *testing.B) {
	e := benchEvent(b)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = e.AppendClient(dst[:0], ClientFormat{OmitRoomID: true, Unsigned: []byte(`{"age":1}`)})
	}
}
