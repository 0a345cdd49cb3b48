package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"strings"
)

// upload uploads a file and returns its name: SERVER/ID.
func (c *client) upload(ctx context.Context, contentType string, data []byte) (string, error) {
	res, err := c.request(ctx, "POST", "/_matrix/media/v3/upload", contentType, data)
	if err != nil {
		return "", err
	}
	text, err := whole(res)
	if err != nil {
		return "", err
	}
	var answer struct {
		URI string `json:"content_uri"`
	}
	err = json.Unmarshal(text, &answer)
	return strings.TrimPrefix(answer.URI, "mxc://"), err
}

const media = "/_matrix/client/v1/media"

// photograph makes a JPEG that is about as hard to read as a photograph: soft shapes
// with grain.
func photograph(width, height int) ([]byte, error) {
	m := image.NewYCbCr(image.Rect(0, 0, width, height), image.YCbCrSubsampleRatio420)
	random := rand.New(rand.NewPCG(1, 2))
	for y := range height {
		for x := range width {
			soft := 100 + 60*math.Sin(float64(x)/97)*math.Cos(float64(y)/131) + 30*math.Sin(float64(x+y)/11)
			m.Y[m.YOffset(x, y)] = uint8(soft + float64(random.IntN(16)))
		}
	}
	for i := range m.Cb {
		m.Cb[i], m.Cr[i] = uint8(i>>6), uint8(i>>8)
	}
	var out bytes.Buffer
	err := jpeg.Encode(&out, m, &jpeg.Options{Quality: 85})
	return out.Bytes(), err
}

// another is the same picture as another file: with a comment.
func another(picture []byte, n int) []byte {
	comment := fmt.Appendf(nil, "%d %d", n, rand.Uint64())
	head := binary.BigEndian.AppendUint16([]byte("\xff\xd8\xff\xfe"), uint16(len(comment)+2))
	return append(append(head, comment...), picture[2:]...)
}

// thumbnails measures thumbnails that have to be made, and such as are there.
func thumbnails(ctx context.Context, b *bench) error {
	user, err := b.register(ctx, "photographer")
	if err != nil {
		return err
	}
	picture, err := photograph(b.sizes.width, b.sizes.height)
	if err != nil {
		return err
	}
	names := make([]string, b.sizes.images)
	if err := each(ctx, len(names), 1, func(ctx context.Context, n int) (err error) {
		// Of what is not said to be an image no thumbnails are made ahead.
		names[n], err = user.upload(ctx, "application/octet-stream", another(picture, n))
		return err
	}); err != nil {
		return err
	}
	for _, size := range []struct {
		name, query string
		want        image.Point
	}{
		{"800x600 scale", "?width=800&height=600&method=scale", image.Pt(800, 600)},
		{"96x96 crop", "?width=96&height=96&method=crop", image.Pt(96, 96)},
	} {
		ask := func(ctx context.Context, n int) error {
			data, err := user.raw(ctx, "GET", media+"/thumbnail/"+names[n%len(names)]+size.query, nil)
			if err != nil {
				return err
			}
			c, _, err := image.DecodeConfig(bytes.NewReader(data))
			if err == nil && image.Pt(c.Width, c.Height) != size.want {
				err = fmt.Errorf("a thumbnail has %dx%d pixels", c.Width, c.Height)
			}
			return err
		}
		decoding := shares(map[string]string{"decoding": `image/jpeg\.Decode`, "scaling": `plan\).*shrink`, "encoding": `image/(jpeg|png)\.Encode`})
		note := func(*figures) string {
			return fmt.Sprintf("of %dx%d, JPEG of %d KiB", b.sizes.width, b.sizes.height, len(picture)/1024)
		}
		if err := b.measure(ctx, load{name: "thumbnail cold, " + size.name, ops: len(names), workers: 4, do: ask}, note, decoding); err != nil {
			return err
		}
		if err := b.measure(ctx, load{name: "thumbnail warm, " + size.name, ops: b.sizes.imageAsks, workers: 8, do: ask}); err != nil {
			return err
		}
	}
	return nil
}

// bytesOf makes a file that no other is like.
func bytesOf(size int) []byte {
	data := make([]byte, size)
	random := rand.NewChaCha8([32]byte(fmt.Appendf(nil, "%032d", rand.Uint64())))
	_, _ = random.Read(data) // which never fails
	return data
}

// files measures uploads and downloads.
func files(ctx context.Context, b *bench) error {
	user, err := b.register(ctx, "archivist")
	if err != nil {
		return err
	}
	for _, kind := range []struct {
		name           string
		size, n, atOne int
	}{
		{"1 MiB", 1 << 20, b.sizes.files, 4},
		{"50 MiB", 50 << 20, b.sizes.largeFiles, 1},
	} {
		rate := func(f *figures) string {
			return fmt.Sprintf("%.0f MB/s", float64(kind.size)*f.ops/f.elapsed.Seconds()/1e6)
		}
		// What is sent is the same but for its beginning: to make it is no work then.
		content := make([][]byte, kind.atOne)
		free := make(chan []byte, kind.atOne)
		for i := range content {
			content[i] = bytesOf(kind.size)
			free <- content[i]
		}
		names := make([]string, kind.n)
		if err := b.measure(ctx, load{name: "upload of " + kind.name, ops: kind.n, workers: kind.atOne, do: func(ctx context.Context, n int) (err error) {
			data := <-free
			defer func() { free <- data }()
			binary.BigEndian.PutUint64(data, rand.Uint64())
			names[n], err = user.upload(ctx, "application/octet-stream", data)
			return err
		}}, rate); err != nil {
			return err
		}
		if err := b.measure(ctx, load{name: "download of " + kind.name, ops: kind.n * b.sizes.copies, workers: kind.atOne, do: func(ctx context.Context, n int) error {
			res, err := user.request(ctx, "GET", media+"/download/"+names[n%len(names)], "", nil)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			got, err := io.Copy(io.Discard, res.Body)
			if err == nil && (res.StatusCode != http.StatusOK || got != int64(kind.size)) {
				err = fmt.Errorf("a download: %s, %d bytes", res.Status, got)
			}
			return err
		}}, rate); err != nil {
			return err
		}
	}
	return nil
}
