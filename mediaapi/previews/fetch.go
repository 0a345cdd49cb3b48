package previews

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/matrix-org/dendrite/common/netguard"
)

// Errors that say why a page is not looked at.
var (
	// ErrURL says that it is no URL of the web.
	ErrURL = errors.New("previews: it is no http or https URL")
	// ErrDenied says that the host is one that is not looked at.
	ErrDenied = errors.New("previews: the host is not looked at")
	// ErrAway says that there was no page.
	ErrAway = errors.New("previews: the page cannot be had")
	// ErrTooLarge says that an image is larger than allowed.
	ErrTooLarge = errors.New("previews: it is too large")
)

// Options are what a Client is made from.
type Options struct {
	Guard *netguard.Guard
	// DenyHosts are not looked at, nor are hosts below them.
	DenyHosts    []string
	MaxRedirects int
	// MaxPage and MaxImage are in bytes; of a page the rest is not read, an image is
	// refused.
	MaxPage, MaxImage int64
	UserAgent         string
	AcceptLanguage    string
}

// Client looks at pages.
type Client struct {
	options Options
	http    *http.Client
}

// New makes a Client.
func New(o Options) *Client {
	c := &Client{options: o}
	c.http = &http.Client{Transport: o.Guard.Transport(), CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if len(via) > o.MaxRedirects {
			return errors.New("too many redirects")
		}
		return c.check(r.URL)
	}}
	return c
}

// maxURL bounds what is taken for a URL.
const maxURL = 4096

// Parse reads the URL that somebody wants to be looked at, and says it in the form
// by which previews are told from each other.
func (c *Client) Parse(text string) (*url.URL, error) {
	if len(text) > maxURL {
		return nil, ErrURL
	}
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return nil, ErrURL
	}
	u.Fragment, u.RawFragment = "", ""
	u.Host = strings.ToLower(u.Host)
	return u, c.check(u)
}

// check refuses URLs that are not requested, whoever names them.
func (c *Client) check(u *url.URL) error {
	if u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return ErrURL
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	for _, denied := range c.options.DenyHosts {
		denied = strings.ToLower(denied)
		if host == denied || strings.HasSuffix(host, "."+denied) {
			return ErrDenied
		}
	}
	return nil
}

// get requests a URL; the answer is one of 200, whose body is to be closed.
func (c *Client) get(ctx context.Context, u *url.URL, accept string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, ErrURL
	}
	r.Header.Set("User-Agent", c.options.UserAgent)
	r.Header.Set("Accept", accept)
	if c.options.AcceptLanguage != "" {
		r.Header.Set("Accept-Language", c.options.AcceptLanguage)
	}
	res, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAway, err)
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close()
		return nil, fmt.Errorf("%w: the answer is %d", ErrAway, res.StatusCode)
	}
	return res, nil
}

// read reads a body up to a limit; what is behind that is left. A body that breaks
// off has what came before.
func read(body io.Reader, limit int64) []byte {
	data, _ := io.ReadAll(io.LimitReader(body, limit)) // the error is that of the page's server
	return data
}

// kindOf is the content type of an answer, without parameters.
func kindOf(res *http.Response) string {
	kind, _, err := mime.ParseMediaType(res.Header.Get("Content-Type"))
	if err != nil {
		kind, _, _ = strings.Cut(res.Header.Get("Content-Type"), ";")
	}
	return strings.ToLower(strings.TrimSpace(kind))
}
