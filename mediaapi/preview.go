package mediaapi

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/matrixerror"
	"github.com/matrix-org/dendrite/mediaapi/api"
	"github.com/matrix-org/dendrite/mediaapi/previews"
	"github.com/matrix-org/dendrite/mediaapi/storage"
	"github.com/matrix-org/dendrite/mediaapi/thumbnails"
)

// failureLife is how long it is known that a page could not be had.
const failureLife = 5 * time.Minute

// storeTimeout bounds the storing of a preview.
const storeTimeout = 10 * time.Second

// previewURL is GET /preview_url. A stored preview is as good for any ts: it may be
// newer than asked for.
// spec: client-server-api §content-repo (GET /_matrix/client/v1/media/preview_url)
func (s *Server) previewURL(r *httpapi.Request) (any, error) {
	if !s.config.URLPreview.Enabled {
		return nil, matrixerror.New(http.StatusNotFound, "M_UNRECOGNIZED", "This server does not look at pages")
	}
	if r.QueryString("url") == "" {
		return nil, matrixerror.MissingParam("The parameter url is needed")
	}
	if _, err := r.QueryInt("ts", 0); err != nil {
		return nil, err
	}
	at, err := s.client.Parse(r.QueryString("url"))
	switch {
	case errors.Is(err, previews.ErrDenied):
		return nil, matrixerror.Forbidden("This server does not look at pages of that host")
	case err != nil:
		return nil, matrixerror.InvalidParam("The parameter url is no http or https URL")
	}
	sum := sha256.Sum256([]byte(at.String()))
	key := hex.EncodeToString(sum[:])
	response, ok, err := s.db.Preview(r.Context(), key, s.now().UnixMilli())
	if err != nil {
		return nil, err
	}
	if !ok {
		if response, err = s.lookOnce(r.Context(), at, key); err != nil {
			return nil, err
		}
	}
	if response == "" {
		// All that keeps a page from being had is told alike: nobody learns what is
		// inside this server's network.
		return nil, matrixerror.New(http.StatusBadGateway, "M_UNKNOWN", "The page cannot be had")
	}
	return jsontext.Value(response), nil
}

// lookOnce looks at a page, once however many ask, and stores what it found.
func (s *Server) lookOnce(ctx context.Context, at *url.URL, key string) (string, error) {
	// What is found is still stored once the time for looking is over.
	v, err := s.flights.do(ctx, "page "+key, s.config.URLPreview.Timeout+storeTimeout, func(kept context.Context) (any, error) {
		select {
		case s.looking <- struct{}{}:
			defer func() { <-s.looking }()
		default:
			return "", matrixerror.Unavailable(retryLater, "Too many pages are being looked at now, try again later")
		}
		ctx, cancel := context.WithTimeout(kept, s.config.URLPreview.Timeout)
		defer cancel()
		life := s.config.URLPreview.Lifetime
		response, err := s.look(ctx, at)
		if err != nil {
			s.logger.WithError(err).Debug("A page cannot be looked at")
			response, life = "", min(life, failureLife)
		}
		return response, s.db.PutPreview(kept, key, response, s.now().Add(life).UnixMilli())
	})
	response, _ := v.(string)
	return response, err
}

// look looks at a page and stores its image; it returns the answer.
func (s *Server) look(ctx context.Context, at *url.URL) (string, error) {
	p, err := s.client.Look(ctx, at)
	if err != nil {
		return "", err
	}
	answer := map[string]any{}
	for name, value := range p.Properties {
		answer[name] = value
	}
	if p.Image != nil {
		if err := s.keepImage(ctx, p.Image, answer); err != nil {
			s.logger.WithError(err).Debug("The image of a page is left out")
		}
	}
	text, err := json.Marshal(answer, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	return string(text), err
}

// keepImage stores the image of a page for as long as the preview, and some more: it
// is shown only after the preview. What is none that thumbnails are made of, such as
// SVG, is left out.
func (s *Server) keepImage(ctx context.Context, at *url.URL, answer map[string]any) error {
	body, _, err := s.client.Image(ctx, at)
	if err != nil {
		return err
	}
	defer body.Close()
	spool, err := s.spool(body)
	if err != nil {
		return err
	}
	defer spool.Close()
	info, err := thumbnails.Inspect(spool.Reader())
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	now := s.now()
	m := storage.Media{Ref: storage.Ref{Server: s.serverName, ID: rand.Text()}, Kind: storage.Preview, CreatedTS: now.UnixMilli(),
		ExpiresTS: now.Add(2 * s.config.URLPreview.Lifetime).UnixMilli(), ContentType: info.Format}
	if err := s.keep(ctx, spool, m, false); err != nil {
		return err
	}
	answer["og:image"] = api.URI(m.Server, m.ID)
	answer["og:image:type"], answer["og:image:width"], answer["og:image:height"] = info.Format, info.Width, info.Height
	answer["matrix:image:size"] = spool.Size
	return nil
}
