package mediaapi

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/httpapi"
	"github.com/matrix-org/dendrite/common/netguard"
	"github.com/matrix-org/dendrite/common/rpc"
	"github.com/matrix-org/dendrite/common/sqldb"
	"github.com/matrix-org/dendrite/mediaapi/api"
	"github.com/matrix-org/dendrite/mediaapi/blobs"
	"github.com/matrix-org/dendrite/mediaapi/previews"
	"github.com/matrix-org/dendrite/mediaapi/storage"
	"github.com/matrix-org/dendrite/mediaapi/thumbnails"
)

// Fetched is media of another server.
type Fetched struct {
	Body        io.ReadCloser
	ContentType string
	Filename    string
}

// Fetcher brings media of other servers: an error of it is what the client is told.
type Fetcher interface {
	Fetch(ctx context.Context, server, mediaID string) (*Fetched, error)
}

// Deps is what a Server is made from. All of it is needed but Fetcher and Metrics.
type Deps struct {
	Config     config.MediaAPI
	ServerName string
	// DataDir is the folder of what this instance stores.
	DataDir string
	// Denied are addresses that are not connected to for others.
	Denied []netip.Prefix
	// DB is the component's own, opened as durable.
	DB     *sqldb.DB
	Caller rpc.Caller
	// Fetcher brings media of other servers; without one there are none.
	Fetcher Fetcher
	Logger  *logrus.Entry
	Metrics prometheus.Registerer
}

// Bounds of what an instance does at one time; more is answered 503, or waits where
// it says so.
const (
	maxUploads    = 64
	maxWaiting    = 200 // for uploads
	maxThumbnails = 64  // asked for and not made yet
)

// Server is the media-api role.
type Server struct {
	config      config.MediaAPI
	serverName  string
	db          *storage.Database
	store       blobs.Store
	spools      string // the folder of spool files
	caller      rpc.Caller
	fetcher     Fetcher
	client      *previews.Client
	scanner     *http.Client
	budget      *thumbnails.Budget
	flights     *flights
	uploads     chan struct{}
	waiting     chan struct{}
	making      chan struct{}
	looking     chan struct{}
	uploaded    *uploaded
	accesses    *accesses
	pregenerate chan storage.Media
	clean       chan struct{} // something may be to be removed
	owner       string        // of leases
	metrics     *metrics
	logger      *logrus.Entry
	now         func() time.Time
}

// New makes a Server: it brings the schema up to date and makes folders. It starts
// nothing.
func New(ctx context.Context, deps Deps) (*Server, error) {
	deps.Config.Defaults()
	db, err := storage.New(ctx, deps.DB)
	if err != nil {
		return nil, err
	}
	c := &deps.Config
	workers := c.Thumbnails.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0) / 2
	}
	s := &Server{
		config:      deps.Config,
		serverName:  deps.ServerName,
		db:          db,
		caller:      deps.Caller,
		fetcher:     deps.Fetcher,
		scanner:     &http.Client{Timeout: c.Scan.Timeout},
		budget:      thumbnails.NewBudget(c.Thumbnails.MaxPixels, c.Thumbnails.MemoryBytes, workers),
		flights:     newFlights(deps.Logger.WithField("component", "mediaapi")),
		uploads:     make(chan struct{}, maxUploads),
		waiting:     make(chan struct{}, maxWaiting),
		making:      make(chan struct{}, maxThumbnails),
		looking:     make(chan struct{}, c.URLPreview.MaxAtOnce),
		uploaded:    newUploaded(),
		accesses:    newAccesses(),
		pregenerate: make(chan storage.Media, maxThumbnails),
		clean:       make(chan struct{}, 1),
		owner:       rand.Text(),
		logger:      deps.Logger.WithField("component", "mediaapi"),
		now:         time.Now,
	}
	s.client = previews.New(previews.Options{
		Guard: netguard.New(deps.Denied, c.URLPreview.Allowed()), DenyHosts: c.URLPreview.DenyHosts, MaxRedirects: c.URLPreview.MaxRedirects,
		MaxPage: c.URLPreview.MaxPageBytes, MaxImage: c.URLPreview.MaxImageBytes,
		UserAgent: userAgent(c.URLPreview.UserAgent, deps.ServerName), AcceptLanguage: c.URLPreview.AcceptLanguage,
	})
	if s.metrics, err = newMetrics(deps.Metrics); err != nil {
		return nil, fmt.Errorf("mediaapi: %w", err)
	}
	if err := s.openStore(deps.DataDir); err != nil {
		return nil, fmt.Errorf("mediaapi: %w", err)
	}
	return s, nil
}

func userAgent(given, serverName string) string {
	if given != "" {
		return given
	}
	return "Mozilla/5.0 (compatible; Dendrite URL preview; +https://" + serverName + ")"
}

// openStore opens the blob store, and makes the folder of spool files: with S3 in
// this instance's own, else beside the files, so that they need only be renamed.
func (s *Server) openStore(dataDir string) error {
	dir := s.config.Path
	if dir == "" {
		dir = filepath.Join(dataDir, "media")
	}
	if s.config.S3.Endpoint != "" {
		bucket, err := blobs.NewBucket(&s.config.S3)
		if err != nil {
			return err
		}
		s.store, s.spools = bucket, filepath.Join(dataDir, "media", "spool")
	} else {
		folder, err := blobs.NewFolder(dir)
		if err != nil {
			return err
		}
		s.store, s.spools = folder, filepath.Join(dir, "spool")
	}
	return os.MkdirAll(s.spools, 0o700)
}

// Register serves the component's methods.
func (s *Server) Register(srv *rpc.Server) {
	api.QueryUserMedia.Serve(srv, s.queryUserMedia)
	api.Quarantine.Serve(srv, s.quarantine)
	api.Protect.Serve(srv, s.protect)
	api.Delete.Serve(srv, s.delete)
}

// Endpoints returns the role's endpoints.
func (s *Server) Endpoints() []httpapi.Endpoint {
	const authed, old = "/_matrix/client/v1/media", "/_matrix/media/v3"
	get := func(path string, access httpapi.Access, limit httpapi.Limit, h httpapi.Handler) httpapi.Endpoint {
		return httpapi.Endpoint{Method: "GET", Path: path, Access: access, Limit: limit, Handler: h}
	}
	upload := func(method, path string, h httpapi.Handler) httpapi.Endpoint {
		return httpapi.Endpoint{Method: method, Path: path, Access: httpapi.User, Limit: httpapi.LimitUpload, Stream: true, MaxBody: s.config.MaxUploadBytes, Handler: h}
	}
	return []httpapi.Endpoint{
		get(authed+"/config", httpapi.Guest, httpapi.LimitRequest, s.getConfig),
		get(authed+"/download/{serverName}/{mediaId}", httpapi.Guest, httpapi.LimitDownload, s.download),
		get(authed+"/download/{serverName}/{mediaId}/{fileName}", httpapi.Guest, httpapi.LimitDownload, s.download),
		get(authed+"/thumbnail/{serverName}/{mediaId}", httpapi.Guest, httpapi.LimitDownload, s.thumbnail),
		get(authed+"/preview_url", httpapi.User, httpapi.LimitURLPreview, s.previewURL),
		get(old+"/config", httpapi.Guest, httpapi.LimitRequest, s.getConfig),
		get(old+"/download/{serverName}/{mediaId}", httpapi.Public, httpapi.LimitDownload, s.downloadOld),
		get(old+"/download/{serverName}/{mediaId}/{fileName}", httpapi.Public, httpapi.LimitDownload, s.downloadOld),
		get(old+"/thumbnail/{serverName}/{mediaId}", httpapi.Public, httpapi.LimitDownload, s.thumbnailOld),
		get(old+"/preview_url", httpapi.User, httpapi.LimitURLPreview, s.previewURL),
		upload("POST", old+"/upload", s.upload),
		upload("PUT", old+"/upload/{serverName}/{mediaId}", s.uploadTo),
		{Method: "POST", Path: "/_matrix/media/v1/create", Access: httpapi.User, Limit: httpapi.LimitUpload, Handler: s.create},
	}
}

// Run makes thumbnails ahead and removes what is not needed, until ctx is done.
func (s *Server) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { s.makeAhead(ctx); return nil })
	group.Go(func() error { s.janitor(ctx); return nil })
	group.Go(func() error { s.noteAccesses(ctx); return nil })
	err := group.Wait()
	s.flights.end()
	return err
}

// getConfig answers what clients should know before they upload.
func (s *Server) getConfig(*httpapi.Request) (any, error) {
	return map[string]int64{"m.upload.size": s.config.MaxUploadBytes}, nil
}
