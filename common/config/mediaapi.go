package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// MediaAPI is the section media_api: files that users send, their thumbnails, and
// previews of pages.
type MediaAPI struct {
	// Path is the folder of the files, which all instances share unless there is
	// S3; "" means media in global.data_dir.
	Path string `yaml:"path"`
	// S3 keeps the files elsewhere if it has an endpoint.
	S3 MediaS3 `yaml:"s3"`
	// MaxUploadBytes bounds a file; zero means 50 MiB.
	MaxUploadBytes int64 `yaml:"max_upload_bytes"`
	// MaxUserBytes bounds what a user has uploaded; zero means no limit.
	MaxUserBytes int64 `yaml:"max_user_bytes"`
	// AllowedTypes are the content types that may be uploaded, such as image/* or
	// application/octet-stream (which encrypted files are); none means all.
	AllowedTypes []string `yaml:"allowed_types"`
	// MaxPending bounds the media that a user has created and not uploaded; zero
	// means 50.
	MaxPending int `yaml:"max_pending"`
	// PendingLifetime is how long what was created waits for its upload; zero
	// means 24h.
	PendingLifetime time.Duration `yaml:"pending_lifetime"`
	// MaxWait bounds how long a download waits for its upload; zero means 1m.
	MaxWait time.Duration `yaml:"max_wait"`
	// UnauthenticatedBefore is the time of the freeze: what was uploaded before it
	// can be had without an account; "" means nothing can.
	UnauthenticatedBefore string `yaml:"unauthenticated_before"`
	// Thumbnails says how they are made.
	Thumbnails Thumbnails `yaml:"thumbnails"`
	// URLPreview says how pages are looked at.
	URLPreview URLPreview `yaml:"url_preview"`
	// Scan asks about every file before anybody gets it.
	Scan MediaScan `yaml:"scan"`
	// Retention removes what nobody has used for long.
	Retention MediaRetention `yaml:"retention"`
}

// MediaS3 is the section media_api.s3.
type MediaS3 struct {
	// Endpoint is the store's host, or host:port; "" for none.
	Endpoint string `yaml:"endpoint"`
	// PlainHTTP talks to it without TLS.
	PlainHTTP bool `yaml:"plain_http"`
	// Region of the bucket; "" asks the store.
	Region string `yaml:"region"`
	// Bucket holds the files; it must be there.
	Bucket string `yaml:"bucket"`
	// Prefix stands before the names of objects.
	Prefix string `yaml:"prefix"`
	// PathStyle puts the bucket into the path, not into the host's name.
	PathStyle bool `yaml:"path_style"`
	// AccessKey to log in with; "" takes what the environment or the machine has.
	AccessKey string `yaml:"access_key"`
	// SecretKey belongs to AccessKey.
	SecretKey string `yaml:"secret_key"`
	// SecretKeyFile holds SecretKey.
	SecretKeyFile string `yaml:"secret_key_file"`
}

// Thumbnails is the section media_api.thumbnails.
type Thumbnails struct {
	// Sizes are made of each image when it is uploaded: WIDTHxHEIGHT crop or scale.
	Sizes []string `yaml:"sizes"`
	// Dynamic makes other sizes when they are asked for.
	Dynamic bool `yaml:"dynamic"`
	// MaxSide bounds width and height of those; zero means 1600.
	MaxSide int `yaml:"max_side"`
	// MaxPixels bounds the images that thumbnails are made of; zero means 40 million.
	MaxPixels int64 `yaml:"max_pixels"`
	// MemoryBytes bounds what all thumbnails in the making take; zero means 512 MiB.
	MemoryBytes int64 `yaml:"memory_bytes"`
	// Workers bounds the thumbnails in the making; zero means half the cores.
	Workers int `yaml:"workers"`
}

// ThumbnailSize is one of Thumbnails.Sizes.
type ThumbnailSize struct {
	Width, Height int
	Crop          bool
}

// Parsed returns Sizes, which Validate has checked.
func (c *Thumbnails) Parsed() (out []ThumbnailSize) {
	for _, text := range c.Sizes {
		if s, err := parseSize(text); err == nil {
			out = append(out, s)
		}
	}
	return out
}

func parseSize(text string) (s ThumbnailSize, err error) {
	wrong := fmt.Errorf("%q is not like 320x240 scale or 96x96 crop", text)
	dimensions, method, _ := strings.Cut(text, " ")
	width, height, _ := strings.Cut(dimensions, "x")
	if s.Width, err = strconv.Atoi(width); err != nil || s.Width < 1 {
		return s, wrong
	}
	if s.Height, err = strconv.Atoi(height); err != nil || s.Height < 1 {
		return s, wrong
	}
	if method != "crop" && method != "scale" {
		return s, wrong
	}
	s.Crop = method == "crop"
	return s, nil
}

// URLPreview is the section media_api.url_preview.
type URLPreview struct {
	// Enabled looks at pages for users. Addresses of federation.deny_ranges are
	// never connected to.
	Enabled bool `yaml:"enabled"`
	// AllowRanges are exceptions from federation.deny_ranges.
	AllowRanges []string `yaml:"allow_ranges"`
	// DenyHosts are names of hosts that are not looked at, with all below them.
	DenyHosts []string `yaml:"deny_hosts"`
	// MaxPageBytes bounds what is read of a page; zero means 1 MiB.
	MaxPageBytes int64 `yaml:"max_page_bytes"`
	// MaxImageBytes bounds a page's image; zero means 10 MiB.
	MaxImageBytes int64 `yaml:"max_image_bytes"`
	// Timeout bounds a preview as a whole; zero means 15s.
	Timeout time.Duration `yaml:"timeout"`
	// MaxRedirects bounds the redirects of each request; zero means 5.
	MaxRedirects int `yaml:"max_redirects"`
	// MaxAtOnce bounds the pages that are looked at at one time; zero means 20.
	MaxAtOnce int `yaml:"max_at_once"`
	// Lifetime is how long a preview, and its image, is kept; zero means 24h.
	Lifetime time.Duration `yaml:"lifetime"`
	// AcceptLanguage is asked of pages.
	AcceptLanguage string `yaml:"accept_language"`
	// UserAgent is what pages are told; "" means a text with the server's name.
	UserAgent string `yaml:"user_agent"`
}

// Allowed returns AllowRanges, which Validate has checked, as ranges.
func (c *URLPreview) Allowed() []netip.Prefix { return parsed(c.AllowRanges) }

// MediaScan is the section media_api.scan.
type MediaScan struct {
	// URL gets each file by POST: 2xx lets it in, 403 and 406 keep it out; "" for none.
	URL string `yaml:"url"`
	// Timeout bounds the answer; zero means 30s.
	Timeout time.Duration `yaml:"timeout"`
	// FailOpen lets files in that URL has no answer for.
	FailOpen bool `yaml:"fail_open"`
}

// MediaRetention is the section media_api.retention. Zero keeps everything.
type MediaRetention struct {
	// Local removes media of this server's users that nobody has got for that long.
	Local time.Duration `yaml:"local"`
	// Remote removes copies of other servers' media.
	Remote time.Duration `yaml:"remote"`
	// Avatars removes those of users and rooms too.
	Avatars bool `yaml:"avatars"`
}

func defaultMedia() MediaAPI {
	return MediaAPI{
		Thumbnails: Thumbnails{Dynamic: true, // spec: client-server-api §thumbnails
			Sizes: []string{"32x32 crop", "96x96 crop", "320x240 scale", "640x480 scale", "800x600 scale"}},
		URLPreview: URLPreview{Enabled: true, AcceptLanguage: "en"},
	}
}

// Defaults fills in what was left out.
func (c *MediaAPI) Defaults() {
	for _, o := range []struct {
		value     *int64
		otherwise int64
	}{
		{&c.MaxUploadBytes, 50 << 20}, {&c.Thumbnails.MaxPixels, 40_000_000}, {&c.Thumbnails.MemoryBytes, 512 << 20},
		{&c.URLPreview.MaxPageBytes, 1 << 20}, {&c.URLPreview.MaxImageBytes, 10 << 20},
	} {
		if *o.value == 0 {
			*o.value = o.otherwise
		}
	}
	for _, o := range []struct {
		value     *int
		otherwise int
	}{{&c.MaxPending, 50}, {&c.Thumbnails.MaxSide, 1600}, {&c.URLPreview.MaxRedirects, 5}, {&c.URLPreview.MaxAtOnce, 20}} {
		if *o.value == 0 {
			*o.value = o.otherwise
		}
	}
	for _, o := range []struct {
		value     *time.Duration
		otherwise time.Duration
	}{
		{&c.PendingLifetime, 24 * time.Hour}, {&c.MaxWait, time.Minute}, {&c.URLPreview.Timeout, 15 * time.Second},
		{&c.URLPreview.Lifetime, 24 * time.Hour}, {&c.Scan.Timeout, 30 * time.Second},
	} {
		if *o.value == 0 {
			*o.value = o.otherwise
		}
	}
}

// Frozen returns UnauthenticatedBefore, which Validate has checked; the zero time
// if it is "".
func (c *MediaAPI) Frozen() time.Time {
	t, err := time.Parse(time.RFC3339, c.UnauthenticatedBefore)
	if err != nil {
		return time.Time{}
	}
	return t
}

// maxObject is the largest object that S3 takes at once.
const maxObject = 5 << 30

func (c *MediaAPI) validate(p *problems) {
	if _, err := time.Parse(time.RFC3339, c.UnauthenticatedBefore); c.UnauthenticatedBefore != "" && err != nil {
		p.add("media_api.unauthenticated_before", "%q is not a time like 2024-09-01T00:00:00Z", c.UnauthenticatedBefore)
	}
	if c.MaxUploadBytes > maxObject {
		p.add("media_api.max_upload_bytes", "is more than %d", int64(maxObject))
	}
	for _, t := range c.AllowedTypes {
		if kind, of, ok := strings.Cut(t, "/"); !ok || kind == "" || of == "" || t != strings.ToLower(t) {
			p.add("media_api.allowed_types", "%q is not like image/png or image/*", t)
		}
	}
	for _, text := range c.Thumbnails.Sizes {
		s, err := parseSize(text)
		if err != nil {
			p.add("media_api.thumbnails.sizes", "%v", err)
		} else if max(s.Width, s.Height) > c.Thumbnails.MaxSide {
			p.add("media_api.thumbnails.sizes", "%q is more than max_side", text)
		}
	}
	p.ranges("media_api.url_preview.allow_ranges", c.URLPreview.AllowRanges)
	p.url("media_api.scan.url", c.Scan.URL)
	s := &c.S3
	switch {
	case s.Endpoint == "" && (s.Bucket != "" || s.AccessKey != ""):
		p.add("media_api.s3.endpoint", "is needed")
	case s.Endpoint != "" && s.Bucket == "":
		p.add("media_api.s3.bucket", "is needed")
	case strings.Contains(s.Endpoint, "/"):
		p.add("media_api.s3.endpoint", "%q is not a host or host:port", s.Endpoint)
	case (s.AccessKey == "") != (s.SecretKey == ""):
		p.add("media_api.s3.access_key", "access_key and secret_key need each other")
	}
}
