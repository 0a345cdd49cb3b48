package thumbnails

import (
	"image"
	"image/color"
	"image/draw"
	"testing"
)

// TestReduce: whatever kind of image it is, a large one is made as small as its
// formula says, with the colours where they were, edges among them.
func TestReduce(t *testing.T) {
	const w, h = 617, 405 // which nothing divides
	source := quarters(w, h)
	palette := image.NewPaletted(source.Rect, color.Palette{red, blue, color.NRGBA{}})
	draw.Draw(palette, palette.Rect, source, image.Point{}, draw.Src)
	deep := image.NewNRGBA64(source.Rect)
	draw.Draw(deep, deep.Rect, source, image.Point{}, draw.Src)
	plain := image.NewRGBA(source.Rect)
	draw.Draw(plain, plain.Rect, source, image.Point{}, draw.Src)
	all := map[string]image.Image{"NRGBA": source, "RGBA": plain, "palette": palette, "16 bits": deep, "unknown": struct{ image.Image }{source}}
	for _, ratio := range []image.YCbCrSubsampleRatio{image.YCbCrSubsampleRatio444, image.YCbCrSubsampleRatio422, image.YCbCrSubsampleRatio420,
		image.YCbCrSubsampleRatio440, image.YCbCrSubsampleRatio411, image.YCbCrSubsampleRatio410} {
		m := image.NewYCbCr(source.Rect, ratio)
		for y := range h {
			for x := range w {
				c := source.NRGBAAt(x, y)
				m.Y[m.YOffset(x, y)], m.Cb[m.COffset(x, y)], m.Cr[m.COffset(x, y)] = color.RGBToYCbCr(c.R, c.G, c.B)
			}
		}
		all["YCbCr "+ratio.String()] = m
	}
	for name, m := range all {
		for _, from := range []image.Rectangle{m.Bounds(), image.Rect(51, 16, 600, 395), image.Rect(0, 0, w/2, h/2)} {
			to := reduced(from.Size(), image.Pt(57, 41))
			if to == from.Size() || to.X < 2*57 || to.Y < 2*41 {
				t.Fatalf("%v is reduced to %v", from, to)
			}
			small := reduce(m, from, to)
			if small.Rect.Max != to {
				t.Fatalf("%s: %v", name, small.Rect)
			}
			for y := 1; y < to.Y; y += 3 {
				for x := 1; x < to.X; x += 3 {
					at := image.Pt(from.Min.X+x*from.Dx()/to.X, from.Min.Y+y*from.Dy()/to.Y)
					if edge := image.Pt(w/2, h/2).Sub(at); max(edge.X, -edge.X) < 20 || max(edge.Y, -edge.Y) < 20 {
						continue // where the colours meet they mix
					}
					if !near(small, x, y, source.NRGBAAt(at.X, at.Y)) {
						t.Fatalf("%s, %v: at %d,%d is %v, not %v", name, from, x, y, small.At(x, y), source.At(at.X, at.Y))
					}
				}
			}
		}
	}
	if same := image.Pt(300, 200); reduced(same, image.Pt(150, 100)) != same || reduced(same, image.Pt(1, 200)) != same {
		t.Error("what is hardly larger is reduced")
	}
}

// TestReducedTransparency: what cannot be seen has no colour to mix in.
func TestReducedTransparency(t *testing.T) {
	m := image.NewNRGBA(image.Rect(0, 0, 400, 400))
	for y := range 400 {
		for x := range 400 {
			m.SetNRGBA(x, y, color.NRGBA{R: 255, A: uint8(255 * ((x + y) % 2))})
			if (x+y)%2 == 0 {
				m.SetNRGBA(x, y, color.NRGBA{G: 255})
			}
		}
	}
	small := reduce(m, m.Rect, image.Pt(100, 100))
	if c := color.NRGBAModel.Convert(small.At(50, 50)).(color.NRGBA); c.R < 250 || c.G > 5 || c.A < 125 || c.A > 130 {
		t.Errorf("%v", c)
	}
}
