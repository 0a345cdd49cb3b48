package thumbnails

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/draw"
	"image/jpeg"
	"image/png"
	"io"

	scaling "golang.org/x/image/draw"
	"golang.org/x/sync/semaphore"
)

// Wish is a thumbnail that is asked for.
type Wish struct {
	Width, Height int
	Crop          bool
	// Animated keeps an animation, where there is one within bounds.
	Animated bool
}

// Thumbnail is an image in a format for all clients.
type Thumbnail struct {
	Data          []byte
	ContentType   string
	Width, Height int
	Animated      bool
}

// Fits tells that the image is not larger than what is asked for: then it is to
// be shown as it is.
// spec: client-server-api §thumbnails
func (i *Info) Fits(w Wish) bool { return i.Width <= w.Width && i.Height <= w.Height }

// plan is how an image becomes a thumbnail.
type plan struct {
	from        image.Rectangle // of the stored image
	to          image.Point     // its size, before it is turned
	orientation int
}

// plan finds the smallest size that is at least as large as the wish, both ways, or
// that of the image. Nothing is made larger.
func (i *Info) plan(w Wish) plan {
	p := plan{from: image.Rectangle{Max: i.stored}, orientation: i.orientation}
	width, height := w.Width, w.Height
	if i.orientation >= 5 {
		width, height = height, width
	}
	x, y := i.stored.X, i.stored.Y
	if w.Crop {
		p.to = image.Pt(min(width, x), min(height, y))
		// The largest part in the middle that has the thumbnail's shape.
		part := image.Pt(x, max(1, ceil(x*p.to.Y, p.to.X)))
		if part.Y > y {
			part = image.Pt(max(1, min(x, ceil(y*p.to.X, p.to.Y))), y)
		}
		p.from.Min = image.Pt((x-part.X)/2, (y-part.Y)/2)
		p.from.Max = p.from.Min.Add(part)
		return p
	}
	// The side that has to shrink less decides.
	p.to = image.Pt(width, ceil(y*width, x))
	if p.to.Y < height {
		p.to = image.Pt(ceil(x*height, y), height)
	}
	if p.to.X >= x || p.to.Y >= y {
		p.to = i.stored
	}
	return p
}

func ceil(a, b int) int { return (a + b - 1) / b }

// shrink makes the small image, turned as it is to be shown.
func (p *plan) shrink(m image.Image) *image.NRGBA {
	small := image.NewNRGBA(image.Rectangle{Max: p.to})
	from := p.from.Add(m.Bounds().Min).Intersect(m.Bounds())
	if to := reduced(from.Size(), p.to); to != from.Size() {
		m, from = reduce(m, from, to), image.Rectangle{Max: to}
	}
	if from.Size() == p.to {
		draw.Draw(small, small.Rect, m, from.Min, draw.Src)
	} else {
		scaling.CatmullRom.Scale(small, small.Rect, m, from, draw.Src, nil)
	}
	return turn(small, p.orientation)
}

// turn applies EXIF's orientation.
func turn(m *image.NRGBA, orientation int) *image.NRGBA {
	if orientation <= 1 || orientation > 8 {
		return m
	}
	w, h := m.Rect.Dx(), m.Rect.Dy()
	size := image.Pt(w, h)
	if orientation >= 5 {
		size = image.Pt(h, w)
	}
	out := image.NewNRGBA(image.Rectangle{Max: size})
	for y := range size.Y {
		for x := range size.X {
			var from image.Point
			switch orientation {
			case 2:
				from = image.Pt(w-1-x, y)
			case 3:
				from = image.Pt(w-1-x, h-1-y)
			case 4:
				from = image.Pt(x, h-1-y)
			case 5:
				from = image.Pt(y, x)
			case 6:
				from = image.Pt(y, h-1-x)
			case 7:
				from = image.Pt(w-1-y, h-1-x)
			case 8:
				from = image.Pt(w-1-y, x)
			}
			copy(out.Pix[out.PixOffset(x, y):][:4], m.Pix[m.PixOffset(from.X, from.Y):][:4])
		}
	}
	return out
}

// Budget bounds what is being made at one time: it takes turns by memory, and so
// that not all cores are busy with it.
type Budget struct {
	memory    *semaphore.Weighted
	most      int64
	workers   chan struct{}
	maxPixels int64
}

// NewBudget makes a Budget.
func NewBudget(maxPixels, memory int64, workers int) *Budget {
	return &Budget{memory: semaphore.NewWeighted(memory), most: memory, workers: make(chan struct{}, max(1, workers)), maxPixels: maxPixels}
}

// cost is about how much memory making takes: decoded pixels, those of the reduced image,
// what the scaler holds between its two passes, and the small image, some times over.
func (i *Info) cost(p plan, framePixels int64) int64 {
	stored := int64(i.stored.X) * int64(i.stored.Y)
	c := stored*i.bytesPerPixel + framePixels*8
	if framePixels > 0 {
		c += stored * 4 // what stands behind the frames
	}
	if framePixels > 0 || i.Format == formatWebP {
		c += i.bytesHeld
	}
	scaled := reduced(p.from.Size(), p.to)
	if scaled != p.from.Size() {
		c += 8 * int64(scaled.X) * int64(scaled.Y)
	}
	c += 32*int64(p.to.X)*int64(scaled.Y) + 16*int64(p.to.X)*int64(p.to.Y)
	if i.Format == formatGIF || framePixels > 0 {
		c += stored * 4 // the canvas
	}
	return c
}

// breakable is a file that ends with a context: decoders know of none.
type breakable struct {
	io.ReadSeeker
	ctx context.Context
}

// Read implements io.Reader.
func (b *breakable) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.ReadSeeker.Read(p)
}

// Make makes a thumbnail, once there is memory for it: ErrTooLarge if there never is.
func (b *Budget) Make(ctx context.Context, i *Info, in io.ReadSeeker, w Wish) (*Thumbnail, error) {
	if int64(i.stored.X)*int64(i.stored.Y) > b.maxPixels {
		return nil, fmt.Errorf("%w: it has %d x %d pixels", ErrTooLarge, i.stored.X, i.stored.Y)
	}
	if i.scans > maxScans {
		return nil, fmt.Errorf("%w: it has more than %d scans", ErrTooLarge, maxScans)
	}
	in = &breakable{in, ctx}
	p := i.plan(w)
	select {
	case b.workers <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-b.workers }()
	if w.Animated && i.Animated {
		frames, pixels, err := i.frames(in)
		if err != nil {
			return nil, err
		}
		cost := i.cost(p, pixels)
		if frames > 1 && frames <= maxFrames && pixels <= maxAnimated && int64(frames)*int64(p.to.X)*int64(p.to.Y) <= maxMade && cost <= b.most {
			return b.make(ctx, i, in, p, cost, true)
		}
	}
	cost := i.cost(p, 0)
	if cost > b.most {
		return nil, fmt.Errorf("%w: it takes %d bytes of memory", ErrTooLarge, cost)
	}
	return b.make(ctx, i, in, p, cost, false)
}

func (b *Budget) make(ctx context.Context, i *Info, in io.ReadSeeker, p plan, cost int64, animated bool) (*Thumbnail, error) {
	if err := b.memory.Acquire(ctx, cost); err != nil {
		return nil, err
	}
	defer b.memory.Release(cost)
	t := &Thumbnail{ContentType: formatPNG, Width: p.to.X, Height: p.to.Y, Animated: animated}
	if i.orientation >= 5 {
		t.Width, t.Height = t.Height, t.Width
	}
	if animated {
		frames, err := i.decodeFrames(in)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		t.Data, err = i.animate(ctx, frames, p)
		return t, err
	}
	m, err := i.still(ctx, in)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	small := p.shrink(m)
	if small.Opaque() && i.Format != formatPNG && i.Format != formatGIF {
		t.ContentType = formatJPEG
		err = jpeg.Encode(&out, flat(small), &jpeg.Options{Quality: 85})
	} else {
		err = png.Encode(&out, small)
	}
	t.Data = out.Bytes()
	return t, err
}

// flat gives the JPEG encoder pixels of a kind that it is quick with.
func flat(m *image.NRGBA) image.Image {
	return &image.RGBA{Pix: m.Pix, Stride: m.Stride, Rect: m.Rect} // without transparency they are the same
}
