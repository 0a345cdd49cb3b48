package mediaapi

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/gomatrixserverlib"
	"github.com/matrix-org/dendrite/mediaapi/blobs"
	"github.com/matrix-org/dendrite/mediaapi/storage"
)

// download is GET /download of who is logged in.
func (s *Server) download(r *httpapi.Request) (any, error) { return s.serve(r, "private") }

// downloadOld is that of everybody, for what was there before the freeze.
func (s *Server) downloadOld(r *httpapi.Request) (any, error) { return s.serve(r, "public") }

func (s *Server) serve(r *httpapi.Request, caching string) (any, error) {
	m, err := s.find(r, caching == "public")
	if err != nil {
		return nil, err
	}
	filename := r.PathValue("fileName")
	if filename == "" {
		filename = m.Filename
	}
	if len(filename) > maxFilename {
		return nil, matrixerror.InvalidParam("The file's name is longer than %d bytes", maxFilename)
	}
	b, body, err := s.open(r.Context(), m.Hash)
	if err != nil {
		return nil, err
	}
	return s.content(m, b, body, m.ContentType, disposition(m.ContentType, filename), caching), nil
}

// find returns media that the client may have, and waits for what has not been
// uploaded yet. old says that the endpoint is one of those that are frozen.
// spec: client-server-api §content-repo-client-behaviour
func (s *Server) find(r *httpapi.Request, old bool) (*storage.Media, error) {
	ref := storage.Ref{Server: r.PathValue("serverName"), ID: r.PathValue("mediaId")}
	missing := matrixerror.NotFound("There is no such media")
	if !gomatrixserverlib.ValidServerName(ref.Server) || !gomatrixserverlib.ValidMediaID(ref.ID) {
		return nil, missing
	}
	wait, err := r.QueryInt("timeout_ms", 20_000)
	if err != nil || wait < 0 {
		return nil, matrixerror.InvalidParam("The parameter timeout_ms is not a number of milliseconds")
	}
	frozen := s.config.Frozen()
	if old && frozen.IsZero() {
		return nil, missing
	}
	m, err := s.await(r.Context(), ref, min(time.Duration(min(wait, 1<<31))*time.Millisecond, s.config.MaxWait))
	if err != nil {
		return nil, err
	}
	if m == nil && !old { // a copy would be newer than the freeze
		if m, err = s.fetch(r.Context(), ref); err != nil {
			return nil, err
		}
	}
	if m == nil || m.Quarantined || old && m.UploadedTS >= frozen.UnixMilli() {
		return nil, missing
	}
	s.accesses.note(m, s.now().UnixMilli())
	return m, nil
}

// lookEvery is how often it is looked whether another instance has taken an upload.
const lookEvery = time.Second

// await returns media, nil if there are none, once they have been uploaded: 504
// M_NOT_YET_UPLOADED if that takes longer.
func (s *Server) await(ctx context.Context, ref storage.Ref, most time.Duration) (*storage.Media, error) {
	late := errNotYet()
	waiting := false
	deadline := time.NewTimer(most)
	defer deadline.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		changed := s.uploaded.next()
		m, ok, err := s.db.Media(ctx, ref)
		if err != nil {
			return nil, err
		}
		if !ok || m.UploadedTS == 0 && m.ExpiresTS <= s.now().UnixMilli() {
			return nil, nil
		}
		if m.UploadedTS > 0 {
			return &m, nil
		}
		if !waiting {
			select {
			case s.waiting <- struct{}{}:
				waiting = true
				defer func() { <-s.waiting }()
			default:
				return nil, late
			}
		}
		select {
		case <-changed:
		case <-look.C:
		case <-deadline.C:
			return nil, late
		case <-httpapi.Stopping(ctx):
			return nil, late
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func errNotYet() error {
	return matrixerror.New(http.StatusGatewayTimeout, "M_NOT_YET_UPLOADED", "The media has not been uploaded yet")
}

// fetch brings media of another server, if somebody can; nil if there are none.
func (s *Server) fetch(ctx context.Context, ref storage.Ref) (*storage.Media, error) {
	if s.fetcher == nil || ref.Server == s.serverName {
		return nil, nil
	}
	if blocked, err := s.db.ServerBlocked(ctx, ref.Server); err != nil || blocked {
		return nil, err
	}
	fetched, err := s.fetcher.Fetch(ctx, ref.Server, ref.ID)
	if err != nil {
		return nil, err
	}
	defer fetched.Body.Close()
	spool, err := s.spool(&limited{fetched.Body, s.config.MaxUploadBytes})
	if err != nil {
		return nil, err
	}
	defer spool.Close()
	kind := fetched.ContentType
	if _, _, err := mime.ParseMediaType(kind); err != nil || len(kind) > maxContentType {
		kind = anyBytes
	}
	filename := fetched.Filename
	if len(filename) > maxFilename {
		filename = ""
	}
	err = s.keep(ctx, spool, storage.Media{Ref: ref, Kind: storage.Remote, CreatedTS: s.now().UnixMilli(), ContentType: kind, Filename: filename}, false)
	if err != nil && !matrixerror.Is(err, "M_CANNOT_OVERWRITE_MEDIA") { // another request was quicker
		return nil, err
	}
	m, ok, err := s.db.Media(ctx, ref)
	if err != nil || !ok {
		return nil, err
	}
	return &m, nil
}

// limited is a body of another server, which must not be longer than what is left.
type limited struct {
	io.Reader
	left int64
}

// Read implements io.Reader.
func (l *limited) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return 0, matrixerror.New(http.StatusBadGateway, "M_TOO_LARGE", "The content is too large to serve")
	}
	return n, err
}

// open opens the bytes with a hash.
func (s *Server) open(ctx context.Context, hash string) (b storage.Blob, body io.ReadSeekCloser, err error) {
	b, ok, err := s.db.Blob(ctx, hash)
	if err != nil {
		return b, nil, err
	}
	if !ok {
		return b, nil, matrixerror.NotFound("There is no such media") // deleted just now
	}
	body, err = s.store.Open(ctx, blobs.Key(b.Hash, b.Generation), b.Size)
	if errors.Is(err, blobs.ErrNotFound) {
		if again, ok, e := s.db.Blob(ctx, hash); e == nil && (!ok || again != b) {
			return b, nil, matrixerror.NotFound("There is no such media")
		}
		s.logger.WithField("sha256", hash).Error("A file is gone that media name")
	}
	return b, body, err
}

// spec: client-server-api §content-repo (introduction)
const securityPolicy = "sandbox; default-src 'none'; script-src 'none'; plugin-types application/pdf; style-src 'unsafe-inline'; object-src 'self';"

// cacheFor is how long clients may keep what they got without asking again: what
// names bytes never names others, but may be quarantined.
const cacheFor = "86400"

// content is the answer with a file.
func (s *Server) content(m *storage.Media, b storage.Blob, body io.ReadSeekCloser, contentType, disposition, caching string) *httpapi.Content {
	s.metrics.bytes.WithLabelValues("out").Add(float64(b.Size))
	return &httpapi.Content{Body: body, Size: b.Size, Modified: time.UnixMilli(m.UploadedTS), Header: http.Header{
		"Content-Type":                 {contentType},
		"Content-Disposition":          {disposition},
		"Content-Security-Policy":      {securityPolicy},
		"Cross-Origin-Resource-Policy": {"cross-origin"},
		"Cache-Control":                {caching + ", max-age=" + cacheFor},
		"Etag":                         {`"` + b.Hash + `"`},
	}}
}

// disposition says whether a browser may show a file, and its name.
// spec: client-server-api §serving-inline-content
func disposition(contentType, filename string) string {
	how := "attachment"
	if kind, _, err := mime.ParseMediaType(contentType); err == nil && inline(kind) {
		how = "inline"
	}
	if filename == "" {
		return how
	}
	if full := mime.FormatMediaType(how, map[string]string{"filename": strings.ToValidUTF8(filename, "\uFFFD")}); full != "" {
		return full
	}
	return how
}

// inline tells whether the spec lets a type be shown.
func inline(kind string) bool {
	switch kind {
	case "text/css", "text/plain", "text/csv", "application/json", "application/ld+json",
		"image/jpeg", "image/gif", "image/png", "image/apng", "image/webp", "image/avif",
		"video/mp4", "video/webm", "video/ogg", "video/quicktime",
		"audio/mp4", "audio/webm", "audio/aac", "audio/mpeg", "audio/ogg",
		"audio/wave", "audio/wav", "audio/x-wav", "audio/x-pn-wav", "audio/flac", "audio/x-flac":
		return true
	}
	return false
}

// uploaded tells who waits that something was uploaded here.
type uploaded struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced each time
}

func newUploaded() *uploaded { return &uploaded{changed: make(chan struct{})} }

// next is closed with the next upload.
func (u *uploaded) next() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.changed
}

func (u *uploaded) tell() {
	u.mu.Lock()
	defer u.mu.Unlock()
	close(u.changed)
	u.changed = make(chan struct{})
}
