package e2e

import (
	"bytes"
	"compress/flate"
	"encoding/base64"
	order "encoding/binary"
	"hash/crc32"
	"image"
	"image/jpeg"
	"testing"
)

// deflated is that many zeros, compressed, without much work: what stands for one
// mebibyte of them is repeated.
func deflated(t *testing.T, zeros int) []byte {
	t.Helper()
	const step = 1 << 20
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	part := func(n int) []byte {
		from := out.Len()
		if _, err := w.Write(make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(out.Bytes()[from:])
	}
	first := part(min(step, zeros))
	if zeros <= step {
		return append(first, 0x03, 0x00) // an empty last block
	}
	again := part(step)
	whole := append(first, bytes.Repeat(again, zeros/step-1)...)
	return append(append(whole, part(zeros%step)...), 0x03, 0x00)
}

// zlibbed is so many zeros as zlib has them.
func zlibbed(t *testing.T, zeros int) []byte {
	t.Helper()
	// Adler-32: one sum stays 1, the other grows by it with each byte.
	sum := uint32(zeros%65521)<<16 | 1
	return order.BigEndian.AppendUint32(append([]byte{0x78, 0x01}, deflated(t, zeros)...), sum)
}

func pngChunk(kind string, data []byte) []byte {
	body := append([]byte(kind), data...)
	out := append(order.BigEndian.AppendUint32(nil, uint32(len(data))), body...)
	return order.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(body))
}

// pngOf is a PNG of one colour of grey, of that many bits, with chunks of one's own
// before its pixels.
func pngOf(width, height, bits int, pixels []byte, before ...[]byte) []byte {
	head := order.BigEndian.AppendUint32(order.BigEndian.AppendUint32(nil, uint32(width)), uint32(height))
	out := append([]byte("\x89PNG\r\n\x1a\n"), pngChunk("IHDR", append(head, byte(bits), 0, 0, 0, 0))...)
	for _, c := range before {
		out = append(out, c...)
	}
	return append(append(out, pngChunk("IDAT", pixels)...), pngChunk("IEND", nil)...)
}

// gifOf is a GIF of so many frames of one pixel.
func gifOf(width, height, frames int) []byte {
	out := append([]byte("GIF89a"), byte(width), byte(width>>8), byte(height), byte(height>>8), 0x80, 0, 0, 0, 0, 0, 255, 255, 255)
	one := []byte{0x2c, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x4c, 0x01, 0}
	return append(append(out, bytes.Repeat(one, frames)...), 0x3b)
}

// webpOf is a WebP of chunks.
func webpOf(chunks ...[]byte) []byte {
	body := append([]byte("WEBP"), bytes.Join(chunks, nil)...)
	return append(order.LittleEndian.AppendUint32([]byte("RIFF"), uint32(len(body))), body...)
}

func webpChunk(kind string, data []byte) []byte {
	out := append(order.LittleEndian.AppendUint32([]byte(kind), uint32(len(data))), data...)
	return append(out, make([]byte, len(data)&1)...)
}

// losslessHead begins an image of the format VP8L.
func losslessHead(width, height int) []byte {
	return order.LittleEndian.AppendUint32([]byte{0x2f}, uint32(width-1)|uint32(height-1)<<14)
}

// extendedHead is the chunk that says a WebP's size.
func extendedHead(width, height int) []byte {
	size := order.LittleEndian.AppendUint32(nil, uint32(width-1))[:3]
	size = append(size, order.LittleEndian.AppendUint32(nil, uint32(height-1))[:3]...)
	return webpChunk("VP8X", append(make([]byte, 4), size...))
}

func jpegSegment(marker byte, data ...byte) []byte {
	return append([]byte{0xff, marker, byte((len(data) + 2) >> 8), byte(len(data) + 2)}, data...)
}

// progressive is a JPEG of one grey that is drawn over again and again: each scan is a
// few bytes, and all of the image to who decodes it.
func progressive(width, height, scans int) []byte {
	out := []byte{0xff, 0xd8}
	table := append([]byte{0}, bytes.Repeat([]byte{1}, 64)...)
	out = append(out, jpegSegment(0xdb, table...)...)
	out = append(out, jpegSegment(0xc2, 8, byte(height>>8), byte(height), byte(width>>8), byte(width), 1, 1, 0x11, 0)...)
	// A code of one bit each: no difference, and the longest run of blocks that end.
	code := append([]byte{1}, make([]byte, 15)...)
	out = append(out, jpegSegment(0xc4, append(append([]byte{0x00}, code...), 0x00)...)...)
	out = append(out, jpegSegment(0xc4, append(append([]byte{0x10}, code...), 0xe0)...)...)
	blocks := (width + 7) / 8 * ((height + 7) / 8)
	out = append(out, jpegSegment(0xda, 1, 1, 0x00, 0, 0, 0x00)...)
	out = append(out, make([]byte, (blocks+7)/8)...)
	scan := jpegSegment(0xda, 1, 1, 0x00, 1, 63, 0x00)
	var bits, n uint
	for left := blocks; left > 0; left -= 32767 {
		bits, n = bits<<15|0x3fff, n+15
		for ; n >= 8; n -= 8 {
			b := byte(bits >> (n - 8))
			if scan = append(scan, b); b == 0xff {
				scan = append(scan, 0)
			}
		}
	}
	if n > 0 {
		scan = append(scan, byte(bits<<(8-n)))
	}
	return append(append(out, bytes.Repeat(scan, scans)...), 0xff, 0xd9)
}

func jpegOf(t *testing.T, width, height int) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := jpeg.Encode(&out, image.NewGray(image.Rect(0, 0, width, height)), nil); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// hostileFile is an upload, and what becomes of it.
type hostileFile struct {
	name, contentType string
	data              []byte
	thumbnail         int  // the status of its thumbnail
	inline            bool // a browser may show it
}

const (
	gigabyte = 1 << 30
	scripted = "<script>alert(document.domain)</script>"
)

// hostileImages are bombs: small files that are large to who decodes them.
func hostileImages(t *testing.T) []hostileFile {
	row := func(width, bits int) int { return 1 + (width*bits+7)/8 }
	small := zlibbed(t, 100*row(100, 8))
	bomb := zlibbed(t, gigabyte)
	named := func(data []byte) []byte { return append([]byte("name\x00\x00"), data...) }
	huge := pngOf(50_000, 50_000, 1, zlibbed(t, 50_000*row(50_000, 1)))
	size := []byte{8, 0xff, 0xff, 0xff, 0xff, 3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0}
	picture := jpegOf(t, 1000, 800)
	pixel, err := base64.StdEncoding.DecodeString("LwAAABAHEBERiIj+BwA=") // VP8L, 1x1
	if err != nil {
		t.Fatal(err)
	}
	return []hostileFile{
		{"PNG of 50,000 x 50,000", "image/png", huge, 413, true},
		{"PNG of all the memory there is", "image/png", pngOf(3500, 3500, 8, zlibbed(t, 3500*row(3500, 8))), 200, true},
		{"PNG with a bomb for a text", "image/png", pngOf(100, 100, 8, small, pngChunk("zTXt", named(bomb))), 200, true},
		{"PNG with a bomb for a profile", "image/png", pngOf(100, 100, 8, small, pngChunk("iCCP", named(bomb))), 200, true},
		{"PNG with a bomb behind its pixels", "image/png", pngOf(100, 100, 8, bomb), 400, true},
		{"PNG that is cut off", "image/png", huge[:len(huge)/2], 413, true},
		{"PNG with one long chunk", "image/png", pngOf(100, 100, 8, small, pngChunk("fcTL", make([]byte, 15<<20))), 200, true},
		{"GIF of 100,000 frames", "image/gif", gifOf(200, 200, 100_000), 200, true},
		{"GIF of 65,535 x 65,535", "image/gif", gifOf(65_535, 65_535, 200), 413, true},
		{"JPEG of 65,535 x 65,535", "image/jpeg", bytes.Join([][]byte{{0xff, 0xd8}, jpegSegment(0xe0, []byte("JFIF\x00\x01\x02\x00\x00\x01\x00\x01\x00\x00")...), jpegSegment(0xc0, size...)}, nil), 413, true},
		{"JPEG of 30,000 scans", "image/jpeg", progressive(2500, 2500, 30_000), 413, true},
		{"JPEG of 20 scans", "image/jpeg", progressive(2500, 2500, 20), 200, true},
		{"JPEG that is cut off", "image/jpeg", picture[:len(picture)/2], 400, true},
		{"JPEG around a bomb", "image/jpeg", append(append([]byte{0xff, 0xd8}, jpegSegment(0xe1, append([]byte("Exif\x00\x00"), huge[:60_000]...)...)...), picture[2:]...), 200, true},
		{"WebP of 16,384 x 16,384", "image/webp", webpOf(webpChunk("VP8L", losslessHead(16_384, 16_384))), 413, true},
		{"WebP of 16,777,216 x 100", "image/webp", webpOf(extendedHead(1<<24, 100), webpChunk("VP8L", pixel)), 413, true},
		{"WebP that is larger than it says", "image/webp", webpOf(extendedHead(100, 100), webpChunk("VP8L", losslessHead(6000, 6000))), 400, true},
	}
}

// hostilePages are what a browser would run.
func hostilePages(t *testing.T) []hostileFile {
	svg := []byte(`<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)">` + scripted + `</svg>`)
	gif := append(gifOf(100, 100, 1), scripted...)
	picture := jpegOf(t, 100, 80)
	pdf := append(append([]byte{0xff, 0xd8}, jpegSegment(0xfe, []byte("%PDF-1.4\n1 0 obj<</OpenAction<</JS(app.alert(1))>>>>endobj")...)...), picture[2:]...)
	return []hostileFile{
		{"SVG", "image/svg+xml", svg, 400, false},
		{"SVG by another name", "image/png", svg, 400, true},
		{"SVG with parameters", "image/svg+xml; charset=utf-8", svg, 400, false},
		{"HTML", "text/html", []byte(scripted), 400, false},
		{"XHTML", "application/xhtml+xml", []byte(scripted), 400, false},
		{"XML", "text/xml", svg, 400, false},
		{"JavaScript", "text/javascript", []byte("alert(1)"), 400, false},
		{"what is no type", "text/html\u00a0,image/png", []byte(scripted), 400, false},
		{"GIF and HTML, as HTML", "text/html", gif, 200, false},
		{"GIF and HTML, as GIF", "image/gif", gif, 200, true},
		{"PDF and JPEG, as PDF", "application/pdf", pdf, 200, false},
		{"PDF and JPEG, as JPEG", "image/jpeg", pdf, 200, true},
	}
}
