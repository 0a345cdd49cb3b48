package mediaapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/mediaapi/blobs"
	"github.com/matrix-org/dendrite/mediaapi/storage"
)

// errScan says that the scanner gave no answer.
var errScan = errors.New("mediaapi: the scanner does not say")

// scan asks the operator's scanner about bytes, before anybody can get them. It gets
// them as the body of a POST, with what is said of them in headers.
func (s *Server) scan(ctx context.Context, spool *blobs.Spool, m *storage.Media) error {
	c := &s.config.Scan
	if c.URL == "" {
		return nil
	}
	refused, err := s.askScanner(ctx, spool, m)
	switch {
	case err == nil && refused:
		s.logger.WithField("sha256", m.Hash).WithField("user", m.UserID).Warn("The scanner refuses a file")
		return matrixerror.Forbidden("This content may not be uploaded")
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	}
	s.logger.WithError(err).Error("The scanner gives no answer")
	if c.FailOpen {
		return nil
	}
	return matrixerror.Unavailable(retryLater, "The content cannot be checked now, try again later")
}

func (s *Server) askScanner(ctx context.Context, spool *blobs.Spool, m *storage.Media) (refused bool, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.config.Scan.URL, io.NopCloser(spool.Reader()))
	if err != nil {
		return false, fmt.Errorf("%w: %w", errScan, err)
	}
	r.ContentLength = spool.Size
	r.Header.Set("Content-Type", m.ContentType)
	r.Header.Set("X-Media-SHA256", spool.Hash)
	r.Header.Set("X-Media-User", m.UserID)
	r.Header.Set("X-Media-Origin", m.Server)
	res, err := s.scanner.Do(r)
	if err != nil {
		return false, fmt.Errorf("%w: %w", errScan, err)
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode >= 200 && res.StatusCode < 300:
		return false, nil
	case res.StatusCode == http.StatusForbidden, res.StatusCode == http.StatusNotAcceptable:
		return true, nil
	}
	return false, fmt.Errorf("%w: it answers %s", errScan, res.Status)
}
