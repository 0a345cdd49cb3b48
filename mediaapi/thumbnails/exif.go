package thumbnails

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// jpegInfo is what Go's decoder does not tell of a JPEG.
type jpegInfo struct {
	orientation int // 1 to 8
	progressive bool
}

// maxSegments bounds the segments that are looked at before the image's data.
const maxSegments = 1000

// readJPEG walks over the segments before the pixels. What is broken there is taken
// for what is not: the decoder judges the image.
func readJPEG(in io.ReadSeeker) (jpegInfo, error) {
	of := jpegInfo{orientation: 1}
	if _, err := in.Seek(2, io.SeekStart); err != nil {
		return of, err
	}
	r := bufio.NewReader(in)
	for range maxSegments {
		marker, length, err := nextSegment(r)
		if err != nil || marker == 0xda || marker == 0xd9 { // start of the scan, end of the image
			return of, ignoreEnd(err)
		}
		if marker == 0xc2 || marker == 0xc6 || marker == 0xca || marker == 0xce {
			of.progressive = true
		}
		if marker == 0xe1 { // APP1
			segment := make([]byte, length)
			if _, err := io.ReadFull(r, segment); err != nil {
				return of, ignoreEnd(err)
			}
			if o := exifOrientation(segment); o != 0 {
				of.orientation = o
			}
			continue
		}
		if _, err := r.Discard(length); err != nil {
			return of, ignoreEnd(err)
		}
	}
	return of, nil
}

var errMarker = errors.New("thumbnails: no marker where one should be")

// ignoreEnd leaves errors of the reader.
func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errMarker) {
		return nil
	}
	return err
}

// nextSegment reads a marker and the length of what follows it.
func nextSegment(r *bufio.Reader) (marker byte, length int, err error) {
	b, err := r.ReadByte()
	if err != nil {
		return 0, 0, err
	}
	if b != 0xff {
		return 0, 0, errMarker
	}
	for b == 0xff { // any number may stand before a marker
		if b, err = r.ReadByte(); err != nil {
			return 0, 0, err
		}
	}
	if b == 0xda || b == 0xd9 || b == 0x01 || b >= 0xd0 && b <= 0xd8 { // which have no length, or whose does not matter
		return b, 0, nil
	}
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return 0, 0, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n < 2 {
		return 0, 0, errMarker
	}
	return b, n - 2, nil
}

// orientationTag is that of EXIF.
const orientationTag = 0x0112

// exifOrientation reads the orientation in an APP1 segment; 0 for none.
func exifOrientation(segment []byte) int {
	const magic = "Exif\x00\x00"
	if len(segment) < len(magic)+8 || string(segment[:len(magic)]) != magic {
		return 0
	}
	tiff := segment[len(magic):]
	var order binary.ByteOrder
	switch string(tiff[:4]) {
	case "II*\x00":
		order = binary.LittleEndian
	case "MM\x00*":
		order = binary.BigEndian
	default:
		return 0
	}
	at := uint64(order.Uint32(tiff[4:]))
	if at+2 > uint64(len(tiff)) {
		return 0
	}
	entries := uint64(order.Uint16(tiff[at:]))
	for n := range entries {
		entry := at + 2 + n*12
		if entry+12 > uint64(len(tiff)) {
			return 0
		}
		if order.Uint16(tiff[entry:]) != orientationTag {
			continue
		}
		o := int(order.Uint16(tiff[entry+8:]))
		if kind := order.Uint16(tiff[entry+2:]); kind != 3 || o < 1 || o > 8 { // 3: a short
			return 0
		}
		return o
	}
	return 0
}
