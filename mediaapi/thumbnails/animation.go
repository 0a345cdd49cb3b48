package thumbnails

import (
	"context"
	"image"
	"image/draw"
	"io"
)

// disposal is what becomes of a frame before the next one.
type disposal int

const (
	disposeNothing disposal = iota
	disposeBackground
	disposePrevious
)

// frame is one of an animation's: where on its canvas it is drawn, and how.
type frame struct {
	image   image.Image
	at      image.Point
	size    image.Point // where it is known before the image
	over    bool        // it is blended with what is there; else it replaces that
	delay   int         // milliseconds
	dispose disposal
}

func (f *frame) area() image.Rectangle {
	return image.Rectangle{Min: f.at, Max: f.at.Add(f.image.Bounds().Size())}
}

func (f *frame) draw(canvas draw.Image) {
	op := draw.Src
	if f.over {
		op = draw.Over
	}
	draw.Draw(canvas, f.area(), f.image, f.image.Bounds().Min, op)
}

// Bounds of animations: what is beyond is shown as a still image.
const (
	maxFrames = 300
	// maxAnimated bounds the pixels of all frames, as they come and as they go.
	maxAnimated = 60_000_000
	maxMade     = 20_000_000
)

// frames counts the frames and their pixels, without decoding any.
func (i *Info) frames(in io.ReadSeeker) (frames int, pixels int64, err error) {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return 0, 0, err
	}
	switch i.Format {
	case formatGIF:
		return gifFrames(in, maxFrames+1)
	case formatPNG:
		pixels, frames, err = apngFrames(in, maxFrames+1)
		return frames, pixels, err
	case formatWebP:
		w, err := readWebP(in, maxFrames+1)
		for _, f := range w.frames {
			pixels += int64(f.size.X) * int64(f.size.Y)
		}
		return len(w.frames), pixels, err
	}
	return 1, 0, nil
}

func (i *Info) decodeFrames(in io.ReadSeeker) ([]frame, error) {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	switch i.Format {
	case formatGIF:
		return animatedGIF(in)
	case formatPNG:
		return animatedPNG(in)
	case formatWebP:
		return animatedWebP(in, maxFrames)
	}
	return nil, ErrFormat
}

// animate makes an animation of the frames, which are drawn on a canvas one after
// the other and made small as a whole.
func (i *Info) animate(ctx context.Context, frames []frame, p plan) ([]byte, error) {
	canvas := image.NewNRGBA(image.Rectangle{Max: i.stored})
	var before *image.NRGBA
	var w apngWriter
	for n := range frames {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f := &frames[n]
		if f.dispose == disposePrevious {
			if before == nil {
				before = image.NewNRGBA(canvas.Rect)
			}
			copy(before.Pix, canvas.Pix)
		}
		f.draw(canvas)
		if err := w.add(p.shrink(canvas), f.delay); err != nil {
			return nil, err
		}
		switch f.dispose {
		case disposeBackground:
			draw.Draw(canvas, f.area(), image.Transparent, image.Point{}, draw.Src)
		case disposePrevious:
			copy(canvas.Pix, before.Pix)
		}
		f.image = nil // what has been drawn may go
	}
	return w.end(), nil
}
