package mediaapi

import (
	"crypto/rand"
	"errors"
	"mime"
	"strings"
	"time"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/mediaapi/api"
	"github.com/matrix-org/dendrite/mediaapi/storage"
)

// Bounds of what is said of an upload, in bytes.
const (
	maxFilename    = 1024
	maxContentType = 255
)

const anyBytes = "application/octet-stream"

// described returns the row of what a request uploads, and refuses what may not be.
func (s *Server) described(r *httpapi.Request) (m storage.Media, err error) {
	if err := mayUpload(r.Device); err != nil {
		return m, err
	}
	m = storage.Media{Kind: storage.Upload, UserID: r.Device.UserID, CreatedTS: s.now().UnixMilli(), ContentType: r.Header.Get("Content-Type"), Filename: r.QueryString("filename")}
	if m.ContentType == "" {
		m.ContentType = anyBytes
	}
	kind, _, err := mime.ParseMediaType(m.ContentType)
	if err != nil || len(m.ContentType) > maxContentType {
		m.ContentType, kind = anyBytes, anyBytes // it means nothing to anybody
	}
	if len(m.Filename) > maxFilename {
		return m, matrixerror.InvalidParam("The file's name is longer than %d bytes", maxFilename)
	}
	if !s.allows(kind) {
		return m, matrixerror.Forbidden("Files of the type %s may not be uploaded", kind)
	}
	return m, nil
}

// mayUpload refuses users of suspended accounts, who may not send anything.
// spec: client-server-api §account-suspension
func mayUpload(d *httpapi.Device) error {
	if d.Suspended {
		return matrixerror.New(403, "M_USER_SUSPENDED", "You cannot do this while your account is suspended")
	}
	return nil
}

func (s *Server) allows(kind string) bool {
	if len(s.config.AllowedTypes) == 0 {
		return true
	}
	main, _, _ := strings.Cut(kind, "/")
	for _, allowed := range s.config.AllowedTypes {
		if allowed == kind || allowed == main+"/*" {
			return true
		}
	}
	return false
}

type uploadAnswer struct {
	URI     string `json:"content_uri"`
	Expires int64  `json:"unused_expires_at,omitzero"`
}

// upload is POST /upload.
func (s *Server) upload(r *httpapi.Request) (any, error) {
	m, err := s.described(r)
	if err != nil {
		return nil, err
	}
	m.Server, m.ID = s.serverName, rand.Text()
	if err := s.receive(r, m, false); err != nil {
		return nil, err
	}
	return uploadAnswer{URI: api.URI(m.Server, m.ID)}, nil
}

// create is POST /create.
// spec: client-server-api §content-repo (POST /_matrix/media/v1/create)
func (s *Server) create(r *httpapi.Request) (any, error) {
	if err := mayUpload(r.Device); err != nil {
		return nil, err
	}
	now := s.now()
	m := storage.Media{Ref: storage.Ref{Server: s.serverName, ID: rand.Text()}, Kind: storage.Upload, UserID: r.Device.UserID,
		CreatedTS: now.UnixMilli(), ExpiresTS: now.Add(s.config.PendingLifetime).UnixMilli()}
	err := s.db.Create(r.Context(), m, s.config.MaxPending)
	if errors.Is(err, storage.ErrPending) {
		return nil, matrixerror.LimitExceeded(pendingRetry)
	}
	if err != nil {
		return nil, err
	}
	return uploadAnswer{api.URI(m.Server, m.ID), m.ExpiresTS}, nil
}

// pendingRetry is when to come again with as much waiting for uploads as is allowed.
const pendingRetry = time.Minute

// uploadTo is PUT /upload: what can be refused is, before the body is read.
func (s *Server) uploadTo(r *httpapi.Request) (any, error) {
	m, err := s.described(r)
	if err != nil {
		return nil, err
	}
	m.Ref = storage.Ref{Server: r.PathValue("serverName"), ID: r.PathValue("mediaId")}
	row, ok, err := storage.Media{}, false, error(nil)
	if m.Server == s.serverName && gomatrixserverlib.ValidMediaID(m.ID) {
		row, ok, err = s.db.Media(r.Context(), m.Ref)
	}
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, explain(storage.ErrGone)
	case row.UserID != m.UserID:
		return nil, matrixerror.Forbidden("Somebody else has created this media ID")
	case row.UploadedTS > 0:
		return nil, explain(storage.ErrTaken)
	case row.ExpiresTS <= s.now().UnixMilli():
		return nil, explain(storage.ErrGone)
	}
	if err := s.receive(r, m, true); err != nil {
		return nil, err
	}
	return nil, nil
}

// receive takes the body in and stores it.
func (s *Server) receive(r *httpapi.Request, m storage.Media, created bool) error {
	ctx := r.Context()
	if quota := s.config.MaxUserBytes; quota > 0 {
		has, err := s.db.Usage(ctx, m.UserID)
		if err != nil {
			return err
		}
		if has+max(r.ContentLength, 0) > quota {
			return explain(storage.ErrQuota)
		}
	}
	body, err := r.Stream()
	if err != nil {
		return err
	}
	select {
	case s.uploads <- struct{}{}:
		defer func() { <-s.uploads }()
	default:
		return matrixerror.Unavailable(retryLater, "Too much is being uploaded now, try again later")
	}
	spool, err := s.spool(body)
	if err != nil {
		return err
	}
	defer spool.Close()
	if err := s.keep(ctx, spool, m, created); err != nil {
		return err
	}
	m.Hash = spool.Hash
	s.metrics.bytes.WithLabelValues("in").Add(float64(spool.Size))
	s.uploaded.tell()
	s.later(m)
	return nil
}
