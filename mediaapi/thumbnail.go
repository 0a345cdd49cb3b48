package mediaapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/mediaapi/storage"
	"github.com/matrix-org/dendrite/mediaapi/thumbnails"
)

const (
	// maxVariants bounds the thumbnails that are stored of one image: who asks for
	// more sizes gets the nearest of those.
	maxVariants = 30
	// makeTimeout bounds the making of a thumbnail, with its turn.
	makeTimeout = time.Minute
)

// thumbnail is GET /thumbnail of who is logged in.
func (s *Server) thumbnail(r *httpapi.Request) (any, error) { return s.serveThumbnail(r, "private") }

// thumbnailOld is that of everybody, for what was there before the freeze.
func (s *Server) thumbnailOld(r *httpapi.Request) (any, error) { return s.serveThumbnail(r, "public") }

func (s *Server) serveThumbnail(r *httpapi.Request, caching string) (any, error) {
	wish, err := s.wished(r)
	if err != nil {
		return nil, err
	}
	m, err := s.find(r, caching == "public")
	if err != nil {
		return nil, err
	}
	t, err := s.thumbnailOf(r.Context(), m.Hash, wish)
	if err != nil {
		return nil, refusal(err)
	}
	body := io.ReadSeekCloser(nil)
	if t.data != nil {
		body = nothingToClose{bytes.NewReader(t.data)}
	} else if t.Blob, body, err = s.open(r.Context(), t.Blob.Hash); err != nil {
		return nil, err
	}
	return s.content(m, t.Blob, body, t.ContentType, `inline; filename="thumbnail.`+ending(t.ContentType)+`"`, caching), nil
}

type nothingToClose struct{ io.ReadSeeker }

// Close implements io.Closer.
func (nothingToClose) Close() error { return nil }

func ending(contentType string) string {
	return contentType[len("image/"):] // of the few types that thumbnails have
}

// wished reads what is asked for; what is larger than any thumbnail is made smaller.
func (s *Server) wished(r *httpapi.Request) (w thumbnails.Wish, err error) {
	for name, side := range map[string]*int{"width": &w.Width, "height": &w.Height} {
		if r.QueryString(name) == "" {
			return w, matrixerror.MissingParam("The parameter %s is needed", name)
		}
		n, err := r.QueryInt(name, 0)
		if err != nil || n < 1 {
			return w, matrixerror.InvalidParam("The parameter %s is not a number of pixels", name)
		}
		*side = int(min(n, int64(s.config.Thumbnails.MaxSide)))
	}
	switch method := r.QueryString("method"); method {
	case "", "scale":
	case "crop":
		w.Crop = true
	default:
		return w, matrixerror.InvalidParam("The method is neither crop nor scale")
	}
	w.Animated, err = r.QueryBool("animated", false)
	return w, err
}

// refusal says to a client why there is no thumbnail.
func refusal(err error) error {
	switch {
	case errors.Is(err, thumbnails.ErrTooLarge):
		return matrixerror.TooLarge("The image is too large to make a thumbnail of")
	case errors.Is(err, thumbnails.ErrFormat):
		return matrixerror.New(400, "M_UNKNOWN", "No thumbnail can be made of this content")
	case errors.Is(err, context.DeadlineExceeded):
		return matrixerror.Unavailable(retryLater, "Too many thumbnails are being made now, try again later")
	}
	return err
}

// made is a thumbnail that is stored, or its source, with its bytes if they are at
// hand.
type made struct {
	storage.Thumbnail
	data []byte
}

func methodOf(w thumbnails.Wish) string {
	if w.Crop {
		return "crop"
	}
	return "scale"
}

// pick finds a wish among thumbnails.
func pick(all []storage.Thumbnail, w thumbnails.Wish) *made {
	for i := range all {
		t := &all[i]
		if t.Width == w.Width && t.Height == w.Height && t.Method == methodOf(w) && t.Animated == w.Animated {
			return &made{Thumbnail: *t}
		}
	}
	return nil
}

// thumbnailOf returns a thumbnail of the bytes with a hash, and makes it if need be:
// once, however many ask.
func (s *Server) thumbnailOf(ctx context.Context, hash string, w thumbnails.Wish) (*made, error) {
	all, err := s.db.Thumbnails(ctx, hash)
	if err != nil {
		return nil, err
	}
	if t := pick(all, w); t != nil {
		return t, nil
	}
	if w = s.possible(w, len(all)); pick(all, w) != nil {
		return pick(all, w), nil
	}
	select {
	case s.making <- struct{}{}:
		defer func() { <-s.making }()
	default:
		return nil, matrixerror.Unavailable(retryLater, "Too many thumbnails are being made now, try again later")
	}
	v, err := s.flights.do(ctx, fmt.Sprintf("thumbnail %s %+v", hash, w), makeTimeout, func(ctx context.Context) (any, error) {
		return s.makeThumbnail(ctx, hash, w)
	})
	if err != nil {
		return nil, err
	}
	return v.(*made), nil
}

// possible turns a wish into one of the configured sizes where no other may be made:
// the smallest that is large enough, or the largest.
func (s *Server) possible(w thumbnails.Wish, variants int) thumbnails.Wish {
	c := &s.config.Thumbnails
	if c.Dynamic && variants < maxVariants {
		return w
	}
	best, found := w, false
	for _, size := range c.Parsed() {
		enough := size.Width >= w.Width && size.Height >= w.Height
		had := found && best.Width >= w.Width && best.Height >= w.Height
		smaller := size.Width*size.Height < best.Width*best.Height
		if size.Crop == w.Crop && (!found || enough && (!had || smaller) || !enough && !had && !smaller) {
			best, found = thumbnails.Wish{Width: size.Width, Height: size.Height, Crop: size.Crop, Animated: w.Animated}, true
		}
	}
	return best
}

// makeThumbnail makes a thumbnail and stores it. What is not larger than asked for is
// shown as it is, unless it moves and must not.
// spec: client-server-api §thumbnails
func (s *Server) makeThumbnail(ctx context.Context, hash string, w thumbnails.Wish) (*made, error) {
	b, body, err := s.open(ctx, hash)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	in, done, err := s.atHand(body)
	if err != nil {
		return nil, err
	}
	defer done()
	info, err := thumbnails.Inspect(in)
	if err != nil {
		s.count(err)
		return nil, err
	}
	if info.Fits(w) && (w.Animated || !info.Animated) {
		return &made{Thumbnail: storage.Thumbnail{Source: hash, Blob: b, ContentType: info.Format}}, nil
	}
	small, err := s.budget.Make(ctx, info, in, w)
	s.count(err)
	if err != nil {
		return nil, err
	}
	t := &made{data: small.Data, Thumbnail: storage.Thumbnail{Source: hash, Width: w.Width, Height: w.Height, Method: methodOf(w), Animated: w.Animated, ContentType: small.ContentType}}
	spool, err := s.spool(bytes.NewReader(small.Data))
	if err != nil {
		return nil, err
	}
	defer spool.Close()
	t.Blob, err = s.storeBlob(ctx, spool, func(claim string, b storage.Blob) error {
		t.Blob = b
		return s.db.PutThumbnail(ctx, claim, t.Thumbnail)
	})
	return t, explain(err)
}

// atHand returns what can be read in any order without a request for each step: the
// file itself, or a copy of it here.
func (s *Server) atHand(body io.ReadSeekCloser) (in io.ReadSeeker, done func(), err error) {
	if _, ok := body.(interface{ Fd() uintptr }); ok {
		return body, func() {}, nil
	}
	spool, err := s.spool(body)
	if err != nil {
		return nil, nil, err
	}
	return spool.Reader(), spool.Close, nil
}

func (s *Server) count(err error) {
	outcome := "made"
	switch {
	case errors.Is(err, thumbnails.ErrTooLarge):
		outcome = "too_large"
	case errors.Is(err, thumbnails.ErrFormat):
		outcome = "no_image"
	case err != nil:
		outcome = "failed"
	}
	s.metrics.thumbnails.WithLabelValues(outcome).Inc()
}

// later has the usual thumbnails of an image made. If there is too much to make, they
// are made when they are asked for.
func (s *Server) later(m storage.Media) {
	if len(s.config.Thumbnails.Sizes) == 0 || len(m.ContentType) < 6 || m.ContentType[:6] != "image/" {
		return
	}
	select {
	case s.pregenerate <- m:
	default:
	}
}

// makeAhead makes the usual thumbnails of what is uploaded, one after the other.
func (s *Server) makeAhead(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-s.pregenerate:
			for _, size := range s.config.Thumbnails.Parsed() {
				_, err := s.thumbnailOf(ctx, m.Hash, thumbnails.Wish{Width: size.Width, Height: size.Height, Crop: size.Crop})
				if errors.Is(err, thumbnails.ErrFormat) || errors.Is(err, thumbnails.ErrTooLarge) || ctx.Err() != nil {
					break // no size will do
				}
				if err != nil {
					s.logger.WithError(err).Debug("A thumbnail was not made ahead")
				}
			}
		}
	}
}
