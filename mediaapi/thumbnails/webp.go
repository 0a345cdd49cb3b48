package thumbnails

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"

	"golang.org/x/image/webp"
)

// webpInfo is what the extended format says; canvas is zero for the simple one.
type webpInfo struct {
	canvas image.Point
	frames []webpFrame
}

// webpFrame is an ANMF chunk: where its data is, and how it is to be shown.
type webpFrame struct {
	frame
	at, length int64
}

// frameHead is what stands before an ANMF's own chunks.
const frameHead = 16

func uint24(b []byte) int { return int(b[0]) | int(b[1])<<8 | int(b[2])<<16 }

// readWebP finds the frames of an animated WebP, up to most. What is broken ends it.
func readWebP(in io.ReadSeeker, most int) (w webpInfo, err error) {
	size, err := in.Seek(0, io.SeekEnd)
	if err != nil {
		return w, err
	}
	animated := false
	at := int64(12)
	for range maxChunks {
		head := make([]byte, 8+frameHead)
		n, err := readAt(in, at, head)
		if err != nil {
			return w, err
		}
		length := int64(binary.LittleEndian.Uint32(head[4:]))
		if n < 8 || at+8+length > size || len(w.frames) >= most {
			break
		}
		switch string(head[:4]) {
		case "VP8X":
			if n >= 18 && length >= 10 {
				animated = head[8]&0x02 != 0
				w.canvas = image.Pt(uint24(head[12:])+1, uint24(head[15:])+1)
			}
		case "ANMF":
			if f, ok := animatedFrame(head, at, length, w.canvas); ok {
				w.frames = append(w.frames, f)
			}
		}
		at += 8 + length + length&1
	}
	if !animated || len(w.frames) == 0 {
		return webpInfo{}, nil
	}
	return w, nil
}

func animatedFrame(head []byte, at, length int64, canvas image.Point) (f webpFrame, ok bool) {
	if length < frameHead {
		return f, false
	}
	b := head[8:]
	f = webpFrame{at: at + 8 + frameHead, length: length - frameHead}
	f.frame.at = image.Pt(2*uint24(b), 2*uint24(b[3:]))
	f.size = image.Pt(uint24(b[6:])+1, uint24(b[9:])+1)
	f.delay, f.over = uint24(b[12:]), b[15]&2 == 0
	if b[15]&1 != 0 {
		f.dispose = disposeBackground
	}
	return f, f.frame.at.X+f.size.X <= canvas.X && f.frame.at.Y+f.size.Y <= canvas.Y
}

// decode decodes a frame: it is put into a file of its own, as the decoder wants it.
func (f *webpFrame) decode(in io.ReadSeeker) error {
	if f.length > maxChunkBytes {
		return ErrTooLarge
	}
	data := make([]byte, f.length)
	if n, err := readAt(in, f.at, data); err != nil || int64(n) < f.length {
		return errors.Join(ErrFormat, err)
	}
	var file bytes.Buffer
	if bytes.HasPrefix(data, []byte("ALPH")) { // needs the extended format
		extended := make([]byte, 10)
		extended[0] = 0x10 // alpha
		put24(extended[4:], f.size.X-1)
		put24(extended[7:], f.size.Y-1)
		file.WriteString("VP8X\x0a\x00\x00\x00")
		file.Write(extended)
	}
	file.Write(data)
	riff := binary.LittleEndian.AppendUint32([]byte("RIFF"), uint32(file.Len()+4))
	whole := append(append(riff, "WEBP"...), file.Bytes()...)
	config, err := webp.DecodeConfig(bytes.NewReader(whole))
	if err != nil || config.Width != f.size.X || config.Height != f.size.Y { // which was counted
		return fmt.Errorf("%w: a frame is not what it says: %w", ErrFormat, errors.Join(err))
	}
	m, err := webp.Decode(bytes.NewReader(whole))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	f.image = m
	return nil
}

func put24(b []byte, n int) { b[0], b[1], b[2] = byte(n), byte(n>>8), byte(n>>16) }

// stillWebP decodes a WebP, or the first frame of one that is animated.
func (i *Info) stillWebP(in io.ReadSeeker) (image.Image, error) {
	w, err := readWebP(in, 1)
	if err != nil {
		return nil, err
	}
	if len(w.frames) == 0 {
		if _, err := in.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		return webp.Decode(in)
	}
	f := w.frames[0]
	if err := f.decode(in); err != nil {
		return nil, err
	}
	canvas := image.NewNRGBA(image.Rectangle{Max: w.canvas})
	f.draw(canvas)
	return canvas, nil
}

// animatedWebP decodes all frames, which have been counted.
func animatedWebP(in io.ReadSeeker, most int) ([]frame, error) {
	w, err := readWebP(in, most)
	if err != nil {
		return nil, err
	}
	out := make([]frame, len(w.frames))
	for n := range w.frames {
		if err := w.frames[n].decode(in); err != nil {
			return nil, err
		}
		out[n] = w.frames[n].frame
	}
	return out, nil
}
