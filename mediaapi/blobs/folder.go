package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Folder keeps keys as files below a folder. Spools that are put into it must be
// in the same file system.
type Folder struct{ dir string }

// NewFolder makes the folder if it is not there.
func NewFolder(dir string) (*Folder, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	return &Folder{dir}, nil
}

func (f *Folder) path(key string) string { return filepath.Join(f.dir, filepath.FromSlash(key)) }

// Put implements Store: the bytes are on disk before the file has its name, and
// the name is before Put returns.
func (f *Folder) Put(_ context.Context, key string, s *Spool) error {
	path := f.path(key)
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("blobs: put: %w", err)
	}
	outer := filepath.Dir(filepath.Dir(path))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("blobs: put: %w", err)
	}
	if err := os.Rename(s.file.Name(), path); err != nil {
		return fmt.Errorf("blobs: put: %w", err)
	}
	for _, dir := range []string{filepath.Dir(path), outer, f.dir} {
		if err := syncDir(dir); err != nil {
			return fmt.Errorf("blobs: put: %w", err)
		}
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Has implements Store.
func (f *Folder) Has(_ context.Context, key string, size int64) (bool, error) {
	info, err := os.Stat(f.path(key))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("blobs: %w", err)
	}
	return info.Size() == size, nil
}

// Open implements Store.
func (f *Folder) Open(_ context.Context, key string, _ int64) (io.ReadSeekCloser, error) {
	file, err := os.Open(f.path(key))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, key)
	}
	if err != nil {
		return nil, fmt.Errorf("blobs: %w", err)
	}
	return file, nil
}

// Remove implements Store. Folders stay: another file may be on its way there.
func (f *Folder) Remove(_ context.Context, key string) error {
	path := f.path(key)
	if err := os.Remove(path); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("blobs: remove: %w", err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("blobs: remove: %w", err)
	}
	return nil
}
