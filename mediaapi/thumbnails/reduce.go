package thumbnails

import (
	"image"
	"image/color"
)

// spare is how much larger than the thumbnail an image is after it was reduced: from
// there on a good filter makes the rest. Such a filter over a whole photograph takes
// several times as long, and memory, and gives the same picture.
const spare = 2

// reduced is the size to which a part of an image may be reduced by mere averages; the
// same if there is nothing to win.
func reduced(from, to image.Point) image.Point {
	if to.X < 1 || to.Y < 1 {
		return from
	}
	k := min(from.X/to.X, from.Y/to.Y) / spare
	if k < 2 {
		return from
	}
	return image.Pt(from.X/k, from.Y/k)
}

// span is a part of a row, or of a column.
type span struct{ from, to int }

// spans divides a length into n parts, whose places are divided by step: that of a
// plane with fewer samples.
func spans(min, length, n, step int) []span {
	out := make([]span, n)
	for i := range out {
		from, to := min+i*length/n, min+(i+1)*length/n
		out[i] = span{from / step, (to + step - 1) / step}
	}
	return out
}

// reduce makes a smaller image of a part of m, each pixel the mean of those it stands for.
func reduce(m image.Image, from image.Rectangle, to image.Point) *image.RGBA {
	out := image.NewRGBA(image.Rectangle{Max: to})
	switch m := m.(type) {
	case *image.YCbCr:
		reduceYCbCr(out, m, from)
	case *image.NRGBA:
		reducePixels(out, from, func(x, y int) (r, g, b, a uint32) {
			p := m.Pix[m.PixOffset(x, y):][:4:4]
			a = uint32(p[3])
			return uint32(p[0]) * a, uint32(p[1]) * a, uint32(p[2]) * a, a * 0xff
		}, 0xff)
	case *image.RGBA:
		reducePixels(out, from, func(x, y int) (r, g, b, a uint32) {
			p := m.Pix[m.PixOffset(x, y):][:4:4]
			return uint32(p[0]), uint32(p[1]), uint32(p[2]), uint32(p[3])
		}, 1)
	case image.RGBA64Image: // all others of the standard library
		reducePixels(out, from, func(x, y int) (r, g, b, a uint32) {
			c := m.RGBA64At(x, y)
			return uint32(c.R), uint32(c.G), uint32(c.B), uint32(c.A)
		}, 0x101)
	default:
		reducePixels(out, from, func(x, y int) (r, g, b, a uint32) { return m.At(x, y).RGBA() }, 0x101)
	}
	return out
}

// reducePixels takes the pixels, multiplied by their transparency, one by one; unit is
// what stands for one step of the small image's.
func reducePixels(out *image.RGBA, from image.Rectangle, at func(x, y int) (r, g, b, a uint32), unit uint64) {
	columns := spans(from.Min.X, from.Dx(), out.Rect.Dx(), 1)
	sums := make([][4]uint64, len(columns))
	for row, ys := range spans(from.Min.Y, from.Dy(), out.Rect.Dy(), 1) {
		clear(sums)
		for y := ys.from; y < ys.to; y++ {
			for i, xs := range columns {
				sum := &sums[i]
				for x := xs.from; x < xs.to; x++ {
					r, g, b, a := at(x, y)
					sum[0] += uint64(r)
					sum[1] += uint64(g)
					sum[2] += uint64(b)
					sum[3] += uint64(a)
				}
			}
		}
		for i, xs := range columns {
			n := uint64((xs.to-xs.from)*(ys.to-ys.from)) * unit
			for c := range 4 {
				out.Pix[row*out.Stride+4*i+c] = uint8((sums[i][c] + n/2) / n)
			}
		}
	}
}

// subsampled is how many pixels share a sample of colour, in a row and in a column.
func subsampled(ratio image.YCbCrSubsampleRatio) (x, y int) {
	switch ratio {
	case image.YCbCrSubsampleRatio422:
		return 2, 1
	case image.YCbCrSubsampleRatio420:
		return 2, 2
	case image.YCbCrSubsampleRatio440:
		return 1, 2
	case image.YCbCrSubsampleRatio411:
		return 4, 1
	case image.YCbCrSubsampleRatio410:
		return 4, 2
	}
	return 1, 1
}

// reduceYCbCr takes each plane by itself, before the colours are mixed.
func reduceYCbCr(out *image.RGBA, m *image.YCbCr, from image.Rectangle) {
	w, h := out.Rect.Dx(), out.Rect.Dy()
	sx, sy := subsampled(m.SubsampleRatio)
	ys := means(m.Y, m.YStride, m.Rect.Min, spans(from.Min.X, from.Dx(), w, 1), spans(from.Min.Y, from.Dy(), h, 1))
	origin := image.Pt(m.Rect.Min.X/sx, m.Rect.Min.Y/sy)
	columns, rows := spans(from.Min.X, from.Dx(), w, sx), spans(from.Min.Y, from.Dy(), h, sy)
	cbs, crs := means(m.Cb, m.CStride, origin, columns, rows), means(m.Cr, m.CStride, origin, columns, rows)
	for i := range ys {
		r, g, b := color.YCbCrToRGB(ys[i], cbs[i], crs[i])
		out.Pix[4*i], out.Pix[4*i+1], out.Pix[4*i+2], out.Pix[4*i+3] = r, g, b, 0xff
	}
}

// means are those of the blocks of a plane, whose first sample is that of a place.
func means(plane []uint8, stride int, origin image.Point, columns, rows []span) []uint8 {
	out := make([]uint8, 0, len(columns)*len(rows))
	sums := make([]uint64, len(columns))
	for _, ys := range rows {
		clear(sums)
		for y := ys.from; y < ys.to; y++ {
			row := plane[(y-origin.Y)*stride:]
			for i, xs := range columns {
				sum := uint64(0)
				for _, v := range row[xs.from-origin.X : xs.to-origin.X] {
					sum += uint64(v)
				}
				sums[i] += sum
			}
		}
		for i, xs := range columns {
			n := uint64((xs.to - xs.from) * (ys.to - ys.from))
			out = append(out, uint8((sums[i]+n/2)/n))
		}
	}
	return out
}
