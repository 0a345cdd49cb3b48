package thumbnails

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"io"

	"golang.org/x/image/webp"
)

// Errors that say why there is no thumbnail.
var (
	ErrFormat   = errors.New("thumbnails: it is no image that is understood")
	ErrTooLarge = errors.New("thumbnails: the image is too large")
)

// Formats.
const (
	formatJPEG = "image/jpeg"
	formatPNG  = "image/png"
	formatGIF  = "image/gif"
	formatWebP = "image/webp"
)

// sniffed is how many bytes tell a format.
const sniffed = 16

// formatOf tells the format from the first bytes; "" for none.
func formatOf(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("\xff\xd8\xff")):
		return formatJPEG
	case bytes.HasPrefix(head, []byte("\x89PNG\r\n\x1a\n")):
		return formatPNG
	case bytes.HasPrefix(head, []byte("GIF87a")), bytes.HasPrefix(head, []byte("GIF89a")):
		return formatGIF
	case len(head) >= 12 && string(head[:4]) == "RIFF" && string(head[8:12]) == "WEBP":
		return formatWebP
	}
	return ""
}

// Info is what is known of an image without its pixels.
type Info struct {
	// Format is the content type that its bytes have.
	Format string
	// Width and Height are those that it is to be shown with.
	Width, Height int
	// Animated says that there is more than one frame.
	Animated bool
	// orientation is EXIF's, 1 to 8, and stored the size before it is applied.
	orientation int
	stored      image.Point
	// bytesPerPixel is what a decoded pixel takes, at most, and bytesHeld what is held of
	// the file itself.
	bytesPerPixel, bytesHeld int64
	// scans is how often a JPEG is drawn over, up to maxScans + 1.
	scans int
}

// Inspect reads what an image is, and not its pixels: ErrFormat for what is none.
func Inspect(in io.ReadSeeker) (*Info, error) {
	head := make([]byte, sniffed)
	n, err := readAt(in, 0, head)
	if err != nil {
		return nil, err
	}
	i := &Info{Format: formatOf(head[:n]), orientation: 1, bytesPerPixel: 4}
	if i.Format == "" {
		return nil, ErrFormat
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	switch i.Format {
	case formatJPEG:
		err = i.inspectJPEG(in)
	case formatPNG:
		err = i.inspectPNG(in)
	case formatGIF:
		err = i.inspectGIF(in)
	case formatWebP:
		err = i.inspectWebP(in)
	}
	if err != nil {
		return nil, err
	}
	if i.stored.X < 1 || i.stored.Y < 1 {
		return nil, ErrFormat
	}
	i.Width, i.Height = i.stored.X, i.stored.Y
	if i.orientation >= 5 {
		i.Width, i.Height = i.Height, i.Width
	}
	return i, nil
}

// readAt reads what there is at a place, up to the length of buf.
func readAt(in io.ReadSeeker, at int64, buf []byte) (int, error) {
	if _, err := in.Seek(at, io.SeekStart); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(in, buf)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, err
}

func (i *Info) set(c image.Config, err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	i.stored = image.Pt(c.Width, c.Height)
	return nil
}

func (i *Info) inspectJPEG(in io.ReadSeeker) error {
	c, err := jpeg.DecodeConfig(in)
	if err := i.set(c, err); err != nil {
		return err
	}
	of, err := readJPEG(in)
	if err != nil {
		return err
	}
	i.orientation, i.scans = of.orientation, of.scans
	samples := int64(3)
	if c.ColorModel != color.YCbCrModel && c.ColorModel != color.GrayModel { // its planes are put together in the end
		samples = 4
		i.bytesPerPixel *= 2
	}
	if of.progressive { // its coefficients are held until the end
		i.bytesPerPixel += 4 * samples
	}
	return nil
}

func (i *Info) inspectPNG(in io.ReadSeeker) error {
	c, err := png.DecodeConfig(in)
	if err := i.set(c, err); err != nil {
		return err
	}
	switch c.ColorModel {
	case color.NRGBA64Model, color.RGBA64Model, color.Gray16Model:
		i.bytesPerPixel = 8
	}
	i.bytesPerPixel *= 2 // an interlaced one is put together from its parts
	if i.bytesHeld, err = held(in); err != nil {
		return err
	}
	_, frames, err := apngFrames(in, 2)
	i.Animated = frames > 1
	return err
}

// held is how much of a file there may be in memory where frames are files that are
// put together: the frame, the file, and what its buffer grew to.
func held(in io.ReadSeeker) (int64, error) {
	size, err := in.Seek(0, io.SeekEnd)
	return 4 * size, err
}

func (i *Info) inspectGIF(in io.ReadSeeker) error {
	c, err := gif.DecodeConfig(in)
	if err := i.set(c, err); err != nil {
		return err
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	frames, _, err := gifFrames(in, 2)
	i.Animated = frames > 1
	return err
}

func (i *Info) inspectWebP(in io.ReadSeeker) error {
	w, err := readWebP(in, 2)
	if err != nil {
		return err
	}
	i.bytesPerPixel = 8
	if i.bytesHeld, err = held(in); err != nil {
		return err
	}
	if w.canvas != (image.Point{}) {
		i.stored, i.Animated = w.canvas, len(w.frames) > 1
		return nil
	}
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	c, err := webp.DecodeConfig(in)
	return i.set(c, err)
}

// still decodes the image, or the first frame of one that is animated.
func (i *Info) still(ctx context.Context, in io.ReadSeeker) (image.Image, error) {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var m image.Image
	var err error
	switch i.Format {
	case formatJPEG:
		m, err = jpeg.Decode(in)
	case formatPNG:
		m, err = png.Decode(in)
	case formatGIF:
		m, err = gif.Decode(in)
	case formatWebP:
		m, err = i.stillWebP(in)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if b := m.Bounds(); b.Dx() > i.stored.X || b.Dy() > i.stored.Y || b.Empty() {
		return nil, ErrFormat // it says one size and has another
	}
	if i.Format == formatGIF && m.Bounds() != (image.Rectangle{Max: i.stored}) { // its first frame is a part
		canvas := image.NewNRGBA(image.Rectangle{Max: i.stored})
		(&frame{image: m, at: m.Bounds().Min, over: true}).draw(canvas)
		return canvas, nil
	}
	return m, nil
}
