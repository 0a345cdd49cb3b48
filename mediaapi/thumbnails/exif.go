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
	scans       int // up to maxScans + 1
}

// maxSegments bounds the segments that are looked at, and maxScans the scans of an image
// that is decoded: each may be a few bytes long and be drawn over the whole image.
// Encoders make about ten.
const (
	maxSegments = 1000
	maxScans    = 100
)

// readJPEG walks over the segments as the decoder does, which passes over bytes between
// them that belong to none. What is broken otherwise ends the walk: the decoder refuses
// the image.
func readJPEG(in io.ReadSeeker) (jpegInfo, error) {
	of := jpegInfo{orientation: 1}
	if _, err := in.Seek(2, io.SeekStart); err != nil {
		return of, err
	}
	r := bufio.NewReader(in)
	for range maxSegments {
		marker, err := nextMarker(r)
		if err != nil || marker == 0xd9 { // end of the image
			return of, ignoreEnd(err)
		}
		length, err := segmentLength(r)
		if err != nil {
			return of, ignoreEnd(err)
		}
		switch marker {
		case 0xc2, 0xc6, 0xca, 0xce:
			of.progressive = true
		case 0xda: // start of a scan, whose data is passed over as what belongs to none
			if of.scans++; of.scans > maxScans {
				return of, nil
			}
		case 0xe1: // APP1
			segment := make([]byte, length)
			if _, err := io.ReadFull(r, segment); err != nil {
				return of, ignoreEnd(err)
			}
			if o := exifOrientation(segment); o != 0 && of.scans == 0 {
				of.orientation = o
			}
			continue
		}
		if _, err := r.Discard(length); err != nil {
			return of, ignoreEnd(err)
		}
	}
	of.scans = maxScans + 1 // who knows
	return of, nil
}

var errMarker = errors.New("thumbnails: a segment of no length")

// ignoreEnd leaves errors of the reader.
func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errMarker) {
		return nil
	}
	return err
}

// nextMarker reads up to the next marker that has a segment, or is the image's end: it
// passes over data, in which a zero follows 0xff, and over restarts.
func nextMarker(r *bufio.Reader) (byte, error) {
	for {
		if _, err := r.ReadSlice(0xff); errors.Is(err, bufio.ErrBufferFull) {
			continue
		} else if err != nil {
			return 0, err
		}
		b := byte(0xff)
		for b == 0xff { // any number may stand before a marker
			var err error
			if b, err = r.ReadByte(); err != nil {
				return 0, err
			}
		}
		if b != 0 && (b < 0xd0 || b > 0xd7) {
			return b, nil
		}
	}
}

// segmentLength reads the length of what follows.
func segmentLength(r *bufio.Reader) (int, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return 0, err
	}
	n := int(binary.BigEndian.Uint16(size[:]))
	if n < 2 {
		return 0, errMarker
	}
	return n - 2, nil
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
