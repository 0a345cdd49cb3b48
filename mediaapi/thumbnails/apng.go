package thumbnails

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"image"
	"image/png"
	"io"
)

const pngMagic = "\x89PNG\r\n\x1a\n"

// chunk is a PNG's part, with its data.
type chunk struct {
	kind string
	data []byte
}

// errPNG ends the walk over a broken PNG.
var errPNG = errors.New("thumbnails: a broken PNG")

// maxChunks bounds what is looked at, and maxChunkBytes what is read of one.
const (
	maxChunks     = 20_000
	maxChunkBytes = 64 << 20
	// maxTable is the length of the longest chunk that is not pixels: 256 colours.
	maxTable = 3 * 256
	// controlBytes is that of an fcTL.
	controlBytes = 26
)

// walkPNG calls f for each chunk; wanted says whether its data, of so many bytes, is
// read. What is broken ends the walk without an error.
func walkPNG(in io.ReadSeeker, wanted func(kind string, length int64) bool, f func(chunk) error) error {
	size, err := in.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	at := int64(len(pngMagic))
	for range maxChunks {
		head := make([]byte, 8)
		n, err := readAt(in, at, head)
		if err != nil {
			return err
		}
		length := int64(binary.BigEndian.Uint32(head))
		if n < len(head) || length > maxChunkBytes || at+12+length > size {
			return nil
		}
		c := chunk{kind: string(head[4:])}
		if wanted(c.kind, length) {
			c.data = make([]byte, length)
			if n, err := readAt(in, at+8, c.data); err != nil || int64(n) < length {
				return err
			}
		}
		if err := f(c); err != nil {
			return err
		}
		at += 12 + length
	}
	return nil
}

// apngFrames counts the frames of an APNG, up to most, and their pixels.
func apngFrames(in io.ReadSeeker, most int) (pixels int64, frames int, err error) {
	err = walkPNG(in, func(kind string, length int64) bool { return kind == "fcTL" && length == controlBytes }, func(c chunk) error {
		if c.kind == "fcTL" && len(c.data) == controlBytes {
			frames++
			pixels += int64(binary.BigEndian.Uint32(c.data[4:])) * int64(binary.BigEndian.Uint32(c.data[8:]))
		}
		if c.kind == "IEND" || frames >= most {
			return errPNG
		}
		return nil
	})
	if errors.Is(err, errPNG) {
		err = nil
	}
	return pixels, frames, err
}

// apngReader puts the frames of an APNG together as PNGs of their own, which Go's
// decoder takes.
type apngReader struct {
	header []byte  // of IHDR
	shared []chunk // what every frame needs, such as colours
	frames []frame
	data   bytes.Buffer // of the frame being read
	canvas image.Point
}

// animatedPNG decodes an APNG whose frames have been counted.
func animatedPNG(in io.ReadSeeker) ([]frame, error) {
	r := &apngReader{}
	wanted := func(kind string, length int64) bool {
		switch kind {
		case "IHDR", "PLTE", "tRNS", "fcTL":
			return length <= maxTable // a longer one is none
		case "IDAT", "fdAT":
			return true
		}
		return false
	}
	if err := walkPNG(in, wanted, r.chunk); err != nil && !errors.Is(err, errPNG) {
		return nil, err
	}
	if err := r.endFrame(); err != nil {
		return nil, err
	}
	if len(r.frames) == 0 {
		return nil, ErrFormat
	}
	return r.frames, nil
}

func (r *apngReader) chunk(c chunk) error {
	switch c.kind {
	case "IHDR":
		if len(c.data) != 13 || r.header != nil {
			return errPNG
		}
		r.header = c.data
		r.canvas = image.Pt(int(binary.BigEndian.Uint32(c.data)), int(binary.BigEndian.Uint32(c.data[4:])))
	case "PLTE", "tRNS":
		r.shared = append(r.shared, c)
	case "fcTL":
		if len(c.data) != controlBytes || r.header == nil {
			return errPNG
		}
		if err := r.endFrame(); err != nil {
			return err
		}
		return r.beginFrame(c.data)
	case "IDAT": // without an fcTL before it, the first image is none of the animation's
		if len(r.frames) > 0 {
			r.data.Write(c.data)
		}
	case "fdAT":
		if len(r.frames) == 0 || len(c.data) < 4 {
			return errPNG
		}
		r.data.Write(c.data[4:])
	case "IEND":
		return errPNG
	}
	return nil
}

func (r *apngReader) beginFrame(control []byte) error {
	number := func(at int) int { return int(binary.BigEndian.Uint32(control[at:])) }
	size, at := image.Pt(number(4), number(8)), image.Pt(number(12), number(16))
	if size.X < 1 || size.Y < 1 || size.X+at.X > r.canvas.X || size.Y+at.Y > r.canvas.Y {
		return errPNG
	}
	numerator, denominator := int(binary.BigEndian.Uint16(control[20:])), int(binary.BigEndian.Uint16(control[22:]))
	if denominator == 0 {
		denominator = 100
	}
	f := frame{at: at, size: size, delay: numerator * 1000 / denominator, over: control[25] == 1}
	switch control[24] {
	case 1:
		f.dispose = disposeBackground
	case 2:
		f.dispose = disposePrevious
	}
	r.frames = append(r.frames, f)
	return nil
}

// endFrame decodes the frame that has been read.
func (r *apngReader) endFrame() error {
	if len(r.frames) == 0 {
		return nil
	}
	f := &r.frames[len(r.frames)-1]
	if r.data.Len() == 0 {
		r.frames = r.frames[:len(r.frames)-1]
		return nil
	}
	header := bytes.Clone(r.header)
	binary.BigEndian.PutUint32(header, uint32(f.size.X))
	binary.BigEndian.PutUint32(header[4:], uint32(f.size.Y))
	var file bytes.Buffer
	file.WriteString(pngMagic)
	for _, c := range append(append([]chunk{{"IHDR", header}}, r.shared...), chunk{"IDAT", r.data.Bytes()}, chunk{"IEND", nil}) {
		writeChunk(&file, c.kind, c.data)
	}
	r.data.Reset()
	m, err := png.Decode(&file)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	f.image = m
	return nil
}

func writeChunk(out *bytes.Buffer, kind string, data []byte) {
	var number [4]byte
	binary.BigEndian.PutUint32(number[:], uint32(len(data)))
	out.Write(number[:])
	out.WriteString(kind)
	out.Write(data)
	sum := crc32.NewIEEE()
	sum.Write([]byte(kind))
	sum.Write(data)
	binary.BigEndian.PutUint32(number[:], sum.Sum32())
	out.Write(number[:])
}

// apngWriter writes frames of one size as an APNG.
type apngWriter struct {
	out      bytes.Buffer
	sequence uint32
	frames   int
	size     image.Point
}

// add adds a frame that is shown for delay milliseconds.
func (w *apngWriter) add(m *image.NRGBA, delay int) error {
	var one bytes.Buffer
	if err := png.Encode(&one, &opaqueNot{m}); err != nil {
		return err
	}
	if w.frames == 0 {
		w.size = m.Bounds().Size()
	}
	control := make([]byte, controlBytes)
	binary.BigEndian.PutUint32(control, w.next())
	binary.BigEndian.PutUint32(control[4:], uint32(w.size.X))
	binary.BigEndian.PutUint32(control[8:], uint32(w.size.Y))
	binary.BigEndian.PutUint16(control[20:], uint16(min(max(delay, 0), 65_535)))
	binary.BigEndian.PutUint16(control[22:], 1000)
	first := w.frames == 0
	w.frames++
	written := false
	return walkPNG(bytes.NewReader(one.Bytes()), func(string, int64) bool { return true }, func(c chunk) error {
		switch {
		case c.kind == "IHDR" && first:
			w.out.WriteString(pngMagic)
			writeChunk(&w.out, "IHDR", c.data)
			writeChunk(&w.out, "acTL", make([]byte, 8)) // set by end
		case c.kind == "IDAT":
			if !written {
				writeChunk(&w.out, "fcTL", control)
				written = true
			}
			if first {
				writeChunk(&w.out, "IDAT", c.data)
				return nil
			}
			writeChunk(&w.out, "fdAT", append(binary.BigEndian.AppendUint32(nil, w.next()), c.data...))
		}
		return nil
	})
}

func (w *apngWriter) next() uint32 {
	w.sequence++
	return w.sequence - 1
}

// end returns the file, of which the number of frames is known by now.
func (w *apngWriter) end() []byte {
	file := w.out.Bytes()
	at := len(pngMagic) + 25 // behind IHDR
	var control bytes.Buffer
	data := make([]byte, 8) // the second number is that of repetitions: for ever
	binary.BigEndian.PutUint32(data, uint32(w.frames))
	writeChunk(&control, "acTL", data)
	copy(file[at:], control.Bytes())
	writeChunk(&w.out, "IEND", nil)
	return w.out.Bytes()
}

// opaqueNot hides whether an image is opaque: all frames of an APNG must have the
// same kind of pixels.
type opaqueNot struct{ *image.NRGBA }

// Opaque is what the encoder asks.
func (*opaqueNot) Opaque() bool { return false }
