package blobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// ErrNotFound says that the store has no such key.
var ErrNotFound = errors.New("blobs: there is no such key")

// Store is where bytes are kept.
type Store interface {
	// Put makes a spool's bytes those of a key, durably; the spool may be used up.
	Put(ctx context.Context, key string, s *Spool) error
	// Has tells whether a key is there, with that size.
	Has(ctx context.Context, key string, size int64) (bool, error)
	// Open reads a key of that size; ErrNotFound if it is not there. The reader may
	// be used until ctx is done.
	Open(ctx context.Context, key string, size int64) (io.ReadSeekCloser, error)
	// Remove removes a key, durably.
	Remove(ctx context.Context, key string) error
}

// Key is the key of bytes with that hash: two levels of folders and the hash. The
// generation tells one writing of the same bytes from the one before, so that a
// removal that comes late cannot take what was written anew.
func Key(hash, generation string) string {
	return hash[:2] + "/" + hash[2:4] + "/" + hash + "-" + generation
}

// spoolPrefix begins the names of spool files.
const spoolPrefix = "spool-"

// Spool is a file on this machine that bytes are taken in to.
type Spool struct {
	file *os.File
	// Hash is the SHA-256 of the bytes, in hexadecimal, and Size their number.
	Hash string
	Size int64
}

// NewSpool reads all of in to a new file in a folder. An error of in is returned
// as it is, and one of the disk otherwise.
func NewSpool(dir string, in io.Reader) (_ *Spool, err error) {
	file, err := os.CreateTemp(dir, spoolPrefix)
	if err != nil {
		return nil, fmt.Errorf("blobs: spool: %w", err)
	}
	s := &Spool{file: file}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	sum := sha256.New()
	source := &source{in: in}
	s.Size, err = io.Copy(io.MultiWriter(file, sum), source)
	if source.err != nil {
		return nil, source.err
	}
	if err != nil {
		return nil, fmt.Errorf("blobs: spool: %w", err)
	}
	s.Hash = hex.EncodeToString(sum.Sum(nil))
	return s, nil
}

// source keeps the error of a reader apart from that of whoever writes.
type source struct {
	in  io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Reader reads the bytes from the beginning. One at a time, while the Spool is open.
func (s *Spool) Reader() io.ReadSeeker { return io.NewSectionReader(s.file, 0, s.Size) }

// Close removes the file.
func (s *Spool) Close() {
	// What cannot be removed SweepSpools finds.
	_ = s.file.Close()
	_ = os.Remove(s.file.Name())
}

// spoolAge is how old a spool file is that nobody writes any more.
const spoolAge = 24 * time.Hour

// SweepSpools removes spool files that processes have left that died.
func SweepSpools(dir string, now time.Time) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("blobs: spool: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || len(e.Name()) < len(spoolPrefix) || e.Name()[:len(spoolPrefix)] != spoolPrefix || now.Sub(info.ModTime()) < spoolAge {
			continue // gone by now, another's, or in use
		}
		if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("blobs: spool: %w", err)
		}
	}
	return nil
}
