package thumbnails

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/gif"
	"io"
)

// errGIF ends the walk over a broken GIF: what came before it counts.
var errGIF = errors.New("thumbnails: a broken GIF")

// gifFrames counts the frames of a GIF, up to most, and their pixels, without
// decoding them: a short file may hold any number of large ones.
func gifFrames(in io.Reader, most int) (frames int, pixels int64, err error) {
	r := bufio.NewReader(in)
	header := make([]byte, 13)
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, 0, ignoreGIF(err)
	}
	if err := skipTable(r, header[10]); err != nil {
		return 0, 0, ignoreGIF(err)
	}
	for frames < most {
		size, err := nextGIFFrame(r)
		if err != nil {
			return frames, pixels, ignoreGIF(err)
		}
		if size.X == 0 && size.Y == 0 {
			continue // an extension
		}
		frames++
		pixels += int64(size.X) * int64(size.Y)
	}
	return frames, pixels, nil
}

func ignoreGIF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errGIF) {
		return nil
	}
	return err
}

// skipTable skips the table of colours that flags announce.
func skipTable(r *bufio.Reader, flags byte) error {
	if flags&0x80 == 0 {
		return nil
	}
	_, err := r.Discard(3 << (1 + flags&7))
	return err
}

// nextGIFFrame skips a block and returns the size of the frame that it is, or none.
func nextGIFFrame(r *bufio.Reader) (size image.Point, err error) {
	kind, err := r.ReadByte()
	if err != nil {
		return size, err
	}
	switch kind {
	case 0x21: // an extension
		if _, err := r.Discard(1); err != nil {
			return size, err
		}
	case 0x2c: // an image
		head := make([]byte, 9)
		if _, err := io.ReadFull(r, head); err != nil {
			return size, err
		}
		size = image.Pt(int(binary.LittleEndian.Uint16(head[4:])), int(binary.LittleEndian.Uint16(head[6:])))
		if err := skipTable(r, head[8]); err != nil {
			return size, err
		}
		if _, err := r.Discard(1); err != nil { // the code size
			return size, err
		}
	default: // the end, or nonsense
		return size, errGIF
	}
	for { // blocks of data
		n, err := r.ReadByte()
		if err != nil || n == 0 {
			return size, err
		}
		if _, err := r.Discard(int(n)); err != nil {
			return size, err
		}
	}
}

// animatedGIF decodes a GIF whose frames have been counted.
func animatedGIF(in io.Reader) ([]frame, error) {
	g, err := gif.DecodeAll(in)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	out := make([]frame, len(g.Image))
	for i, m := range g.Image {
		f := frame{image: m, at: m.Bounds().Min, over: true, delay: g.Delay[i] * 10}
		switch g.Disposal[i] {
		case gif.DisposalBackground:
			f.dispose = disposeBackground
		case gif.DisposalPrevious:
			f.dispose = disposePrevious
		}
		out[i] = f
	}
	return out, nil
}
