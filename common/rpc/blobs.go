package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// Answers mostly hold events, as jsontext.Values. Between processes that know
// blobsType (the caller says so in Accept) they are not quoted into the JSON but
// stand behind it: an answer is
//
//	4 bytes, big-endian: the length of the JSON
//	the JSON, in which each jsontext.Value is the number of a blob, from 0 on
//	the blobs, each with its length before it (uvarint)
const blobsType = "application/vnd.dendrite.blobs"

const blobsHead = 4

var errBlobs = errors.New("the blobs are not as the answer says")

// blobs are the values of one answer on its way, with the options that put them
// there: made once and used again, for what they know of types is costly.
type blobs struct {
	values  [][]byte
	options json.Options
}

func newBlobs() *blobs {
	b := &blobs{}
	b.options = jsonOptions(json.MarshalToFunc(b.marshal), json.UnmarshalFromFunc(b.unmarshal))
	return b
}

func (b *blobs) marshal(to *jsontext.Encoder, v jsontext.Value) error {
	if v == nil {
		return to.WriteToken(jsontext.Null)
	}
	b.values = append(b.values, v)
	return to.WriteToken(jsontext.Int(int64(len(b.values) - 1)))
}

func (b *blobs) unmarshal(from *jsontext.Decoder, v *jsontext.Value) error {
	token, err := from.ReadToken()
	if err != nil {
		return err
	}
	switch token.Kind() {
	case 'n':
		*v = nil
		return nil
	case '0':
		if n, err := token.Int(); err == nil && n >= 0 && n < int64(len(b.values)) {
			*v = bytes.Clone(b.values[n]) // what keeps one event does not keep all
			return nil
		}
	}
	return errBlobs
}

// encodeBlobs writes v to buf, of which no more than limit bytes are used.
func (c *codec) encodeBlobs(buf *bytes.Buffer, limit int64, v any) error {
	b := c.blobs.Get().(*blobs)
	defer c.release(b)
	w := boundedWriter{buf, limit}
	if _, err := w.Write(make([]byte, blobsHead)); err != nil {
		return err
	}
	if err := json.MarshalWrite(w, v, b.options); err != nil {
		return err
	}
	binary.BigEndian.PutUint32(buf.Bytes(), uint32(buf.Len()-blobsHead))
	size := 0
	for _, value := range b.values {
		size += binary.MaxVarintLen64 + len(value)
	}
	buf.Grow(int(min(int64(size), max(0, limit-int64(buf.Len()))))) // at once: copying what there is costs more than the rest
	var length [binary.MaxVarintLen64]byte
	for _, value := range b.values {
		if _, err := w.Write(length[:binary.PutUvarint(length[:], uint64(len(value)))]); err != nil {
			return err
		}
		if _, err := w.Write(value); err != nil {
			return err
		}
	}
	return nil
}

// decodeBlobs reads v from a body, of which it keeps nothing.
func (c *codec) decodeBlobs(body []byte, v any) error {
	if len(body) < blobsHead {
		return errBlobs
	}
	length, rest := binary.BigEndian.Uint32(body), body[blobsHead:]
	if uint64(length) > uint64(len(rest)) {
		return errBlobs
	}
	b := c.blobs.Get().(*blobs)
	defer c.release(b)
	for after := rest[length:]; len(after) > 0; {
		size, n := binary.Uvarint(after)
		if n <= 0 || size > uint64(len(after)-n) {
			return errBlobs
		}
		b.values = append(b.values, after[n:n+int(size):n+int(size)])
		after = after[n+int(size):]
	}
	if err := json.Unmarshal(rest[:length], v, b.options); err != nil {
		return fmt.Errorf("behind the head: %w", err)
	}
	return nil
}

func (c *codec) release(b *blobs) {
	clear(b.values)
	b.values = b.values[:0]
	c.blobs.Put(b)
}
