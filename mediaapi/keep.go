package mediaapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/mediaapi/blobs"
	"github.com/matrix-org/dendrite/mediaapi/storage"
)

const (
	// claimLife is how long bytes are kept for who is about to name them.
	claimLife = time.Hour
	// Bytes that are just being removed are waited for, with a pause between looks.
	doomedWait  = 10 * time.Second
	doomedPause = 50 * time.Millisecond
	// retryLater is when to come again after too much at one time.
	retryLater = 2 * time.Second
)

// spool takes bytes in to a spool file.
func (s *Server) spool(in io.Reader) (*blobs.Spool, error) {
	spool, err := blobs.NewSpool(s.spools, in)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil, fmt.Errorf("%w: %w", matrixerror.Unavailable(retryLater, "The server cannot store anything now, try again later"), err)
	}
	return spool, err
}

// keep stores a spool as media: its bytes first, then the row. created says that the
// row is there already.
func (s *Server) keep(ctx context.Context, spool *blobs.Spool, m storage.Media, created bool) error {
	m.Size, m.Hash = spool.Size, spool.Hash
	m.UploadedTS = s.now().UnixMilli()
	m.AccessedTS = m.UploadedTS
	if err := s.scan(ctx, spool, &m); err != nil {
		return err
	}
	quota := int64(0)
	if m.Kind == storage.Upload {
		quota = s.config.MaxUserBytes
	}
	_, err := s.storeBlob(ctx, spool, func(claim string, _ storage.Blob) error {
		return s.db.Commit(ctx, claim, m, created, quota)
	})
	return explain(err)
}

// storeBlob claims a spool's bytes, sees to it that they are in the store, and calls
// name, which is to store what names them in place of the claim.
func (s *Server) storeBlob(ctx context.Context, spool *blobs.Spool, name func(claim string, b storage.Blob) error) (b storage.Blob, err error) {
	claim := rand.Text()
	if b, err = s.claim(ctx, claim, spool); err != nil {
		return b, err
	}
	defer func() {
		if err == nil {
			return
		}
		// The claim would end by itself, later.
		if e := s.db.Release(context.WithoutCancel(ctx), claim); e != nil {
			s.logger.WithError(e).Warn("A claim to bytes cannot be given up now")
		}
	}()
	key := blobs.Key(b.Hash, b.Generation)
	there, err := s.store.Has(ctx, key, spool.Size)
	if err != nil {
		return b, err
	}
	if !there {
		if err = s.store.Put(ctx, key, spool); err != nil {
			return b, err
		}
	}
	return b, name(claim, b)
}

func (s *Server) claim(ctx context.Context, claim string, spool *blobs.Spool) (b storage.Blob, err error) {
	generation := strings.ToLower(rand.Text()[:8])
	for began := time.Now(); ; {
		b, err = s.db.Claim(ctx, claim, storage.Blob{Hash: spool.Hash, Generation: generation, Size: spool.Size}, claimLife.Milliseconds())
		if !errors.Is(err, storage.ErrDoomed) || time.Since(began) > doomedWait {
			return b, err
		}
		s.wakeJanitor() // who removes it may have died
		select {
		case <-ctx.Done():
			return b, ctx.Err()
		case <-time.After(doomedPause):
		}
	}
}

// explain says to a client why media are not stored.
func explain(err error) error {
	switch {
	case errors.Is(err, storage.ErrBlocked):
		return matrixerror.Forbidden("This content may not be uploaded")
	case errors.Is(err, storage.ErrQuota):
		return matrixerror.Forbidden("You have as much media here as is allowed")
	case errors.Is(err, storage.ErrTaken):
		return matrixerror.New(409, "M_CANNOT_OVERWRITE_MEDIA", "The media has been uploaded already")
	case errors.Is(err, storage.ErrGone):
		return matrixerror.NotFound("This media ID was not created, or has expired")
	case errors.Is(err, storage.ErrDoomed), errors.Is(err, storage.ErrClaimLost):
		return matrixerror.Unavailable(retryLater, "The content cannot be stored now, try again")
	}
	return err
}
