package thumbnails

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"image"
	"image/color"
	"runtime"
	"testing"
	"time"
)

func segment(marker byte, data ...byte) []byte {
	return append([]byte{0xff, marker, byte((len(data) + 2) >> 8), byte(len(data) + 2)}, data...)
}

// scanned is a JPEG of one grey, of 80 x 80 pixels, with as many scans, and with bytes of
// one's own before what says its size.
func scanned(scans int, before ...byte) []byte {
	out := append([]byte{0xff, 0xd8}, before...)
	out = append(out, segment(0xdb, append([]byte{0}, bytes.Repeat([]byte{1}, 64)...)...)...)
	out = append(out, segment(0xc2, 8, 0, 80, 0, 80, 1, 1, 0x11, 0)...)
	code := append([]byte{1}, make([]byte, 15)...) // one of one bit
	out = append(out, segment(0xc4, append(append([]byte{0x00}, code...), 0x00)...)...)
	out = append(out, segment(0xc4, append(append([]byte{0x10}, code...), 0xe0)...)...)
	out = append(append(out, segment(0xda, 1, 1, 0x00, 0, 0, 0x00)...), make([]byte, 13)...)
	again := append(segment(0xda, 1, 1, 0x00, 1, 63, 0x00), 0x7f, 0xff, 0x00) // all blocks end
	return append(append(out, bytes.Repeat(again, scans-1)...), 0xff, 0xd9)
}

// TestScans: an image that is drawn over again and again is not decoded, whatever
// stands before its size.
func TestScans(t *testing.T) {
	var comments []byte
	for range maxSegments {
		comments = append(comments, segment(0xfe)...)
	}
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"some scans":                   {scanned(20), nil},
		"as many as may be":            {scanned(maxScans), nil},
		"too many scans":               {scanned(maxScans + 1), ErrTooLarge},
		"behind bytes of no segment":   {scanned(maxScans+1, 0xff, 0x00, 1, 2, 0xff, 0xd3, 7), ErrTooLarge},
		"behind too many segments":     {scanned(2, comments...), ErrTooLarge},
		"behind an image in a segment": {scanned(2, segment(0xe1, scanned(maxScans+1)...)...), nil},
		"with more behind the end":     {append(scanned(2), bytes.Repeat([]byte{0xff, 0xda, 0, 2}, 1000)...), nil},
	} {
		in := bytes.NewReader(c.file)
		i, err := Inspect(in)
		if err == nil {
			_, err = budget().Make(t.Context(), i, in, Wish{Width: 32, Height: 32})
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if i != nil && c.want == nil && i.bytesPerPixel < 16 {
			t.Errorf("%s: %d bytes a pixel", name, i.bytesPerPixel)
		}
	}
}

// TestPlanes: images with planes that are put together in the end take more memory.
func TestPlanes(t *testing.T) {
	jfif := segment(0xe0, []byte("JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00")...)
	for name, c := range map[string]struct {
		kind, planes byte
		want         int64
	}{
		"colours": {0xc0, 3, 4}, "grey": {0xc0, 1, 4}, "inks": {0xc0, 4, 8}, "colours, progressive": {0xc2, 3, 16}, "inks, progressive": {0xc2, 4, 24},
	} {
		head := []byte{8, 0, 80, 0, 80, c.planes}
		for n := range c.planes {
			head = append(head, n+1, 0x11, 0)
		}
		file := append(append([]byte{0xff, 0xd8}, jfif...), segment(c.kind, head...)...)
		if i, err := Inspect(bytes.NewReader(append(file, 0xff, 0xd9))); err != nil || i.bytesPerPixel != c.want {
			t.Errorf("%s: %+v %v, want %d bytes a pixel", name, i, err, c.want)
		}
	}
}

// TestLongChunks: what is no frame's control, or no table, is not taken into memory.
func TestLongChunks(t *testing.T) {
	const long = 8 << 20
	file := new(bytes.Buffer)
	whole := pngOf(t, quarters(100, 100))
	file.Write(whole[:33]) // with IHDR
	for _, kind := range []string{"fcTL", "PLTE", "tRNS", "IHDR"} {
		writeChunk(file, kind, make([]byte, long))
	}
	file.Write(whole[33:])
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 4 {
		in := bytes.NewReader(file.Bytes())
		if _, err := Inspect(in); err != nil {
			t.Fatal(err)
		}
		if _, err := animatedPNG(in); !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > long {
		t.Errorf("%d bytes of memory were taken", took)
	}
}

// TestHeldBytes: what is put together as files of their own counts with its bytes.
func TestHeldBytes(t *testing.T) {
	file := append(pixel(t), make([]byte, 1<<20)...) // behind its end
	binary.LittleEndian.PutUint32(file[4:], uint32(len(file)-8))
	in := bytes.NewReader(file)
	i, err := Inspect(in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewBudget(1000, 1<<20, 1).Make(t.Context(), i, in, Wish{Width: 32, Height: 32}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large file of little: %v", err)
	}
}

// slow is a file that ends its reader's time while it is read.
type slow struct {
	*bytes.Reader
	reads int
	end   context.CancelFunc
}

// Read implements io.Reader.
func (s *slow) Read(p []byte) (int, error) {
	if s.reads++; s.reads == 8 {
		s.end()
	}
	return s.Reader.Read(p[:min(len(p), 512)])
}

// TestGivenUp: a decoder ends with the time that there was for it.
func TestGivenUp(t *testing.T) {
	noise := image.NewNRGBA(image.Rect(0, 0, 300, 300))
	for i := range noise.Pix {
		noise.Pix[i] = uint8(i * i >> 3)
	}
	noise.SetNRGBA(0, 0, color.NRGBA{})
	file := pngOf(t, noise)
	i, err := Inspect(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	in := &slow{Reader: bytes.NewReader(file), end: cancel}
	if _, err := budget().Make(ctx, i, in, Wish{Width: 32, Height: 32}); !errors.Is(err, context.Canceled) || in.reads > 9 {
		t.Errorf("%v after %d reads of %d bytes", err, in.reads, len(file))
	}
}
