package thumbnails

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"
	"strings"
	"testing"
)

var (
	red  = color.NRGBA{255, 0, 0, 255}
	blue = color.NRGBA{0, 0, 255, 255}
)

// quarters is an image whose upper left quarter is red and whose rest is blue.
func quarters(w, h int) *image.NRGBA {
	m := image.NewNRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			m.SetNRGBA(x, y, blue)
			if x < w/2 && y < h/2 {
				m.SetNRGBA(x, y, red)
			}
		}
	}
	return m
}

func pngOf(t testing.TB, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// jpegOf makes a JPEG with EXIF's orientation, in an order of bytes.
func jpegOf(t testing.TB, m image.Image, orientation uint16, order binary.AppendByteOrder, magic string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, m, &jpeg.Options{Quality: 95}); err != nil {
		t.Fatal(err)
	}
	exif := append([]byte("Exif\x00\x00"+magic), order.AppendUint32(nil, 8)...)
	exif = order.AppendUint16(exif, 2)
	exif = append(exif, make([]byte, 12)...) // another entry
	exif = order.AppendUint16(exif, orientationTag)
	exif = order.AppendUint16(exif, 3)
	exif = order.AppendUint32(exif, 1)
	exif = order.AppendUint16(exif, orientation)
	exif = append(exif, 0, 0)
	segment := append(binary.BigEndian.AppendUint16([]byte("\xff\xe1"), uint16(len(exif)+2)), exif...)
	return append(append(bytes.Clone(b.Bytes()[:2]), segment...), b.Bytes()[2:]...)
}

// gifOf makes an animation of a red and a blue frame; the second is a part.
func gifOf(t testing.TB, w, h int) []byte {
	t.Helper()
	palette := color.Palette{red, blue, color.NRGBA{}}
	first := image.NewPaletted(image.Rect(0, 0, w, h), palette)
	second := image.NewPaletted(image.Rect(w/2, h/2, w, h), palette)
	for i := range second.Pix {
		second.Pix[i] = 1
	}
	var b bytes.Buffer
	err := gif.EncodeAll(&b, &gif.GIF{Image: []*image.Paletted{first, second}, Delay: []int{5, 7}, Disposal: []byte{gif.DisposalNone, gif.DisposalBackground}})
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pixel is a WebP of one pixel.
func pixel(t testing.TB) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString("UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// webpOf makes an animation of that pixel, at two places of a canvas.
func webpOf(t testing.TB, w, h int) []byte {
	t.Helper()
	part := func(kind string, data []byte) []byte {
		return append(binary.LittleEndian.AppendUint32([]byte(kind), uint32(len(data))), data...)
	}
	head := make([]byte, 10)
	head[0] = 2
	put24(head[4:], w-1)
	put24(head[7:], h-1)
	body := append([]byte("WEBP"), part("VP8X", head)...)
	body = append(body, part("ANIM", make([]byte, 6))...)
	for n := range 2 {
		f := make([]byte, frameHead)
		put24(f, n) // times two
		put24(f[12:], 100)
		body = append(body, part("ANMF", append(f, pixel(t)[12:]...))...)
	}
	return part("RIFF", body)
}

func budget() *Budget { return NewBudget(4_000_000, 256<<20, 2) }

// makeOf makes a thumbnail of a file.
func makeOf(t testing.TB, file []byte, w Wish) (*Thumbnail, image.Image) {
	t.Helper()
	in := bytes.NewReader(file)
	i, err := Inspect(in)
	if err != nil {
		t.Fatal(err)
	}
	made, err := budget().Make(t.Context(), i, in, w)
	if err != nil {
		t.Fatal(err)
	}
	m, format, err := image.Decode(bytes.NewReader(made.Data))
	if err != nil || "image/"+format != made.ContentType || m.Bounds().Size() != image.Pt(made.Width, made.Height) {
		t.Fatalf("%s %v %dx%d: %v", format, m.Bounds(), made.Width, made.Height, err)
	}
	return made, m
}

// near tells whether a pixel has about a colour.
func near(m image.Image, x, y int, want color.NRGBA) bool {
	c := color.NRGBAModel.Convert(m.At(x, y)).(color.NRGBA)
	off := func(a, b uint8) bool { return max(a, b)-min(a, b) > 40 }
	return !off(c.R, want.R) && !off(c.G, want.G) && !off(c.B, want.B) && !off(c.A, want.A)
}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		w, h int
		wish Wish
		want image.Point
	}{
		{400, 200, Wish{Width: 40, Height: 40}, image.Pt(80, 40)},
		{200, 400, Wish{Width: 40, Height: 40}, image.Pt(40, 80)},
		{400, 200, Wish{Width: 40, Height: 40, Crop: true}, image.Pt(40, 40)},
		{400, 200, Wish{Width: 40, Height: 10, Crop: true}, image.Pt(40, 10)},
		{401, 199, Wish{Width: 320, Height: 240}, image.Pt(401, 199)}, // never larger
		{401, 199, Wish{Width: 320, Height: 240, Crop: true}, image.Pt(320, 199)},
		{1000, 1, Wish{Width: 32, Height: 32}, image.Pt(1000, 1)},
		{1, 1000, Wish{Width: 32, Height: 32, Crop: true}, image.Pt(1, 32)},
		{333, 77, Wish{Width: 100, Height: 20}, image.Pt(100, 24)},
	} {
		if made, _ := makeOf(t, pngOf(t, quarters(c.w, c.h)), c.wish); image.Pt(made.Width, made.Height) != c.want {
			t.Errorf("%dx%d for %+v: %dx%d, want %v", c.w, c.h, c.wish, made.Width, made.Height, c.want)
		}
	}
	i, err := Inspect(bytes.NewReader(pngOf(t, quarters(30, 30))))
	if err != nil || !i.Fits(Wish{Width: 30, Height: 30}) || i.Fits(Wish{Width: 29, Height: 100}) {
		t.Errorf("%+v %v", i, err)
	}
}

// TestOrientation: the red quarter is where EXIF says.
func TestOrientation(t *testing.T) {
	corners := map[uint16][2]bool{ // right, below
		1: {false, false}, 2: {true, false}, 3: {true, true}, 4: {false, true},
		5: {false, false}, 6: {true, false}, 7: {true, true}, 8: {false, true}, 9: {false, false}, 0: {false, false},
	}
	for orientation, corner := range corners {
		for _, file := range [][]byte{
			jpegOf(t, quarters(120, 80), orientation, binary.BigEndian, "MM\x00*"),
			jpegOf(t, quarters(120, 80), orientation, binary.LittleEndian, "II*\x00"),
		} {
			made, m := makeOf(t, file, Wish{Width: 30, Height: 20})
			want := image.Pt(30, 20)
			if orientation >= 5 && orientation <= 8 {
				want = image.Pt(30, 45)
			}
			if made.ContentType != formatJPEG || m.Bounds().Size() != want {
				t.Errorf("%d: %s %v", orientation, made.ContentType, m.Bounds())
			}
			for _, right := range []bool{false, true} {
				for _, below := range []bool{false, true} {
					x, y, colour := want.X/5, want.Y/5, blue
					if right {
						x = want.X * 4 / 5
					}
					if below {
						y = want.Y * 4 / 5
					}
					if corner == [2]bool{right, below} {
						colour = red
					}
					if !near(m, x, y, colour) {
						t.Errorf("%d: at %d,%d is %v", orientation, x, y, m.At(x, y))
					}
				}
			}
		}
	}
}

func TestTransparency(t *testing.T) {
	m := quarters(100, 100)
	m.SetNRGBA(99, 99, color.NRGBA{})
	for x := range 50 {
		for y := range 50 {
			m.SetNRGBA(x, y, color.NRGBA{})
		}
	}
	made, small := makeOf(t, pngOf(t, m), Wish{Width: 10, Height: 10})
	if made.ContentType != formatPNG || !near(small, 1, 1, color.NRGBA{}) || !near(small, 8, 8, blue) {
		t.Errorf("%s %v %v", made.ContentType, small.At(1, 1), small.At(8, 8))
	}
}

// TestAnimated: animations stay such where that is asked for, and only there.
func TestAnimated(t *testing.T) {
	apng, _ := makeOf(t, gifOf(t, 40, 40), Wish{Width: 20, Height: 20, Animated: true})
	for name, file := range map[string][]byte{"GIF": gifOf(t, 40, 40), "APNG": apng.Data, "WebP": webpOf(t, 40, 40)} {
		i, err := Inspect(bytes.NewReader(file))
		if err != nil || !i.Animated {
			t.Fatalf("%s: %+v %v", name, i, err)
		}
		made, first := makeOf(t, file, Wish{Width: 10, Height: 10, Animated: true})
		frames, err := animatedPNG(bytes.NewReader(made.Data))
		if err != nil || len(frames) != 2 || !made.Animated || made.ContentType != formatPNG {
			t.Fatalf("%s: %d frames, %v", name, len(frames), err)
		}
		if name != "WebP" {
			second := frames[1].image
			if !near(first, 8, 8, red) || !near(second, 8, 8, blue) || !near(second, 2, 2, red) || frames[1].delay != 70 {
				t.Errorf("%s: %v, then %v, %v after %d ms", name, first.At(8, 8), second.At(8, 8), second.At(2, 2), frames[1].delay)
			}
		}
		still, _ := makeOf(t, file, Wish{Width: 10, Height: 10})
		if i, err := Inspect(bytes.NewReader(still.Data)); err != nil || i.Animated || still.Animated {
			t.Errorf("%s: what is to be still moves: %v", name, err)
		}
	}
	if made, _ := makeOf(t, pngOf(t, quarters(40, 40)), Wish{Width: 10, Height: 10, Animated: true}); made.Animated {
		t.Error("what is still moves")
	}
}

func TestWebP(t *testing.T) {
	made, _ := makeOf(t, pixel(t), Wish{Width: 10, Height: 10})
	if made.Width != 1 || made.ContentType != formatPNG {
		t.Errorf("%+v", made)
	}
}

// large is the beginning of a PNG that says it has that size.
func large(w, h uint32) []byte {
	head := append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("IHDR"), w), h), 8, 6, 0, 0, 0)
	out := append([]byte(pngMagic+"\x00\x00\x00\x0d"), head...)
	return binary.BigEndian.AppendUint32(out, crc32.ChecksumIEEE(head))
}

// TestBombs: small files that are large images are not decoded.
func TestBombs(t *testing.T) {
	for name, file := range map[string][]byte{"PNG": large(50_000, 50_000), "longest PNG": large(1<<31-1, 1<<31-1), "wide PNG": large(4_000_001, 1)} {
		in := bytes.NewReader(file)
		i, err := Inspect(in)
		if err == nil {
			_, err = budget().Make(t.Context(), i, in, Wish{Width: 32, Height: 32, Animated: true})
		}
		if !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
	in := bytes.NewReader(pngOf(t, quarters(1000, 1000)))
	i, err := Inspect(in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewBudget(4_000_000, 1<<20, 1).Make(t.Context(), i, in, Wish{Width: 32, Height: 32}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more memory than there is: %v", err)
	}
}

// TestManyFrames: an animation beyond bounds is shown as a still image.
func TestManyFrames(t *testing.T) {
	g := &gif.GIF{}
	palette := color.Palette{red, blue}
	for range maxFrames + 1 {
		g.Image, g.Delay = append(g.Image, image.NewPaletted(image.Rect(0, 0, 20, 20), palette)), append(g.Delay, 1)
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, g); err != nil {
		t.Fatal(err)
	}
	if made, _ := makeOf(t, b.Bytes(), Wish{Width: 10, Height: 10, Animated: true}); made.Animated {
		t.Error("it moves")
	}
}

func TestNoImages(t *testing.T) {
	for _, file := range []string{"", "x", "<svg xmlns='http://www.w3.org/2000/svg'/>", "<?xml version='1.0'?><svg/>", "%PDF-1.4", "GIF89a", "\xff\xd8\xff", pngMagic,
		"RIFF\x04\x00\x00\x00WEBP", "BM" + strings.Repeat("x", 100), string(large(0, 5)), "\x00\x00\x00\x20ftypavif"} {
		in := strings.NewReader(file)
		i, err := Inspect(in)
		if err == nil {
			_, err = budget().Make(t.Context(), i, in, Wish{Width: 32, Height: 32})
		}
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%.20q: %v", file, err)
		}
	}
	// What is cut after its size was read.
	whole := pngOf(t, quarters(100, 100))
	in := bytes.NewReader(whole[:len(whole)/2])
	i, err := Inspect(in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := budget().Make(t.Context(), i, in, Wish{Width: 32, Height: 32}); !errors.Is(err, ErrFormat) {
		t.Errorf("cut: %v", err)
	}
}

func TestTurns(t *testing.T) {
	b := NewBudget(1000, 1<<20, 1)
	b.workers <- struct{}{} // somebody is at it
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	in := bytes.NewReader(pngOf(t, quarters(10, 10)))
	i, err := Inspect(in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Make(ctx, i, in, Wish{Width: 5, Height: 5}); !errors.Is(err, context.Canceled) {
		t.Errorf("who has gone waits: %v", err)
	}
	<-b.workers
	if _, err := b.Make(t.Context(), i, in, Wish{Width: 5, Height: 5}); err != nil {
		t.Error(err)
	}
}

// FuzzMake: whatever somebody sends neither ends the process nor takes more than a
// little memory.
func FuzzMake(f *testing.F) {
	for _, file := range [][]byte{gifOf(f, 8, 8), webpOf(f, 8, 8), pixel(f), pngOf(f, quarters(8, 8)),
		jpegOf(f, quarters(8, 8), 6, binary.BigEndian, "MM\x00*"), jpegOf(f, quarters(8, 8), 3, binary.LittleEndian, "II*\x00")} {
		f.Add(file)
	}
	b := NewBudget(100_000, 16<<20, 4)
	f.Fuzz(func(t *testing.T, file []byte) {
		in := bytes.NewReader(file)
		i, err := Inspect(in)
		if err != nil {
			return
		}
		for _, w := range []Wish{{Width: 7, Height: 5, Crop: true}, {Width: 4, Height: 4, Animated: true}} {
			made, err := b.Make(t.Context(), i, in, w)
			if err != nil {
				continue
			}
			if c, _, err := image.DecodeConfig(bytes.NewReader(made.Data)); err != nil || c.Width != made.Width || c.Height != made.Height || c.Width > i.Width || c.Height > i.Height {
				t.Fatalf("%+v of %+v: %+v %v", made, i, c, err)
			}
		}
	})
}

// FuzzEXIF: a segment is read within its bounds.
func FuzzEXIF(f *testing.F) {
	f.Add([]byte("Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"))
	f.Fuzz(func(t *testing.T, segment []byte) {
		if o := exifOrientation(segment); o < 0 || o > 8 {
			t.Fatal(o)
		}
		if _, err := readJPEG(bytes.NewReader(segment)); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	})
}
