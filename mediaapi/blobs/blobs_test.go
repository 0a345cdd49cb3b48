package blobs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/mediaapi/blobs"
	"github.com/matrix-org/dendrite/mediaapi/blobs/blobstest"
)

// stores runs a test on both kinds of stores; spools go to dir.
func stores(t *testing.T, test func(t *testing.T, s blobs.Store, dir string)) {
	t.Run("folder", func(t *testing.T) {
		dir := t.TempDir()
		s, err := blobs.NewFolder(filepath.Join(dir, "media"))
		if err != nil {
			t.Fatal(err)
		}
		test(t, s, dir)
	})
	t.Run("bucket", func(t *testing.T) {
		c := blobstest.Bucket(t)
		s, err := blobs.NewBucket(&c)
		if err != nil {
			t.Fatal(err)
		}
		test(t, s, t.TempDir())
	})
}

func spool(t *testing.T, dir string, data []byte) *blobs.Spool {
	t.Helper()
	s, err := blobs.NewSpool(dir, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestStores(t *testing.T) {
	stores(t, func(t *testing.T, s blobs.Store, dir string) {
		for _, data := range [][]byte{nil, []byte("0123456789"), bytes.Repeat([]byte("abcdefgh"), 300_000)} {
			sp := spool(t, dir, data)
			if sum := sha256.Sum256(data); sp.Hash != hex.EncodeToString(sum[:]) || sp.Size != int64(len(data)) {
				t.Fatalf("%s %d", sp.Hash, sp.Size)
			}
			key := blobs.Key(sp.Hash, "g")
			check := func(there bool) {
				t.Helper()
				has, err := s.Has(t.Context(), key, sp.Size)
				if has != there || err != nil {
					t.Fatalf("has: %v %v", has, err)
				}
			}
			check(false)
			if _, err := s.Open(t.Context(), key, sp.Size); sp.Size > 0 && !errors.Is(err, blobs.ErrNotFound) {
				t.Errorf("what is not there: %v", err)
			}
			if err := s.Put(t.Context(), key, sp); err != nil {
				t.Fatal(err)
			}
			check(true)
			if has, err := s.Has(t.Context(), key, sp.Size+1); has || err != nil {
				t.Errorf("of another size: %v %v", has, err)
			}
			read(t, s, key, data)
			for range 2 {
				if err := s.Remove(t.Context(), key); err != nil {
					t.Fatal(err)
				}
			}
			check(false)
		}
	})
}

// read reads all of a key, and parts of it.
func read(t *testing.T, s blobs.Store, key string, data []byte) {
	t.Helper()
	r, err := s.Open(t.Context(), key, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	for _, c := range []struct {
		offset int64
		whence int
	}{{0, io.SeekStart}, {-3, io.SeekEnd}, {int64(len(data)) / 2, io.SeekStart}, {0, io.SeekEnd}} {
		if len(data) < 3 {
			break
		}
		at, err := r.Seek(c.offset, c.whence)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data[at:]) {
			t.Fatalf("from %d: %d bytes, %v", at, len(got), err)
		}
	}
	if _, err := r.Seek(-1, io.SeekStart); err == nil {
		t.Error("a place before the beginning")
	}
}

// TestTogether: who writes the same bytes at one time does not disturb the others.
func TestTogether(t *testing.T) {
	stores(t, func(t *testing.T, s blobs.Store, dir string) {
		data := bytes.Repeat([]byte("x"), 100_000)
		var wg sync.WaitGroup
		for range 5 {
			sp := spool(t, dir, data)
			wg.Go(func() {
				if err := s.Put(t.Context(), blobs.Key(sp.Hash, "g"), sp); err != nil {
					t.Error(err)
				}
				read(t, s, blobs.Key(sp.Hash, "g"), data)
			})
		}
		wg.Wait()
	})
}

func TestFolderPlaces(t *testing.T) {
	dir := t.TempDir()
	s, err := blobs.NewFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	sp := spool(t, dir, []byte("x"))
	if err := s.Put(t.Context(), blobs.Key(sp.Hash, "g"), sp); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, sp.Hash[:2], sp.Hash[2:4], sp.Hash+"-g")); err != nil {
		t.Error(err)
	}
}

func TestBucketAway(t *testing.T) {
	c := blobstest.Bucket(t)
	c.Bucket = "not-there"
	s, err := blobs.NewBucket(&c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "a", spool(t, t.TempDir(), []byte("x"))); err == nil {
		t.Error("a bucket that is not there takes objects")
	}
	c.SecretKey = "wrong"
	if s, err = blobs.NewBucket(&c); err != nil {
		t.Fatal(err)
	}
	if has, err := s.Has(t.Context(), "a", 1); has || err == nil {
		t.Errorf("with a wrong key: %v %v", has, err)
	}
}

var errCut = errors.New("cut")

// TestSpoolCut: what breaks off leaves nothing, and its error is the sender's.
func TestSpoolCut(t *testing.T) {
	dir := t.TempDir()
	_, err := blobs.NewSpool(dir, io.MultiReader(strings.NewReader("abc"), failing{}))
	if err != errCut {
		t.Errorf("error %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errCut }

func TestSweepSpools(t *testing.T) {
	dir := t.TempDir()
	sp := spool(t, dir, []byte("x"))
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		after time.Duration
		left  int
	}{{time.Hour, 2}, {25 * time.Hour, 1}} {
		if err := blobs.SweepSpools(dir, time.Now().Add(c.after)); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != c.left {
			t.Errorf("after %v: %v %v", c.after, left, err)
		}
	}
	if got, err := io.ReadAll(sp.Reader()); err != nil || string(got) != "x" { // open all the same
		t.Errorf("%q %v", got, err)
	}
}
