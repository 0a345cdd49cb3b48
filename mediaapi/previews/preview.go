package previews

import (
	"context"
	"io"
	"maps"
	"net/url"
	"strings"

	"github.com/go-json-experiment/json"
)

// Preview is what a page is about.
type Preview struct {
	// Properties are OpenGraph's, by name, without those of images.
	Properties map[string]string
	// Image is the URL of its image; nil for none.
	Image *url.URL
}

const acceptPage = "text/html,application/xhtml+xml,image/*;q=0.8,*/*;q=0.1"

// Look looks at a page: ErrURL, ErrDenied or ErrAway if it cannot. What is neither a
// page nor an image has no properties.
func (c *Client) Look(ctx context.Context, at *url.URL) (*Preview, error) {
	if err := c.check(at); err != nil {
		return nil, err
	}
	res, err := c.get(ctx, at, acceptPage)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	final := res.Request.URL
	switch kind := kindOf(res); {
	case strings.HasPrefix(kind, "image/"):
		return &Preview{Properties: map[string]string{}, Image: final}, nil
	case kind == "text/html", kind == "application/xhtml+xml":
	default:
		return &Preview{Properties: map[string]string{}}, nil
	}
	p := readPage(read(res.Body, c.options.MaxPage), res.Header.Get("Content-Type"))
	discard(res.Body)
	found := &Preview{Properties: map[string]string{}}
	for name, value := range p.properties {
		if !strings.HasPrefix(name, "og:image") {
			found.Properties[name] = value
		}
	}
	image := first(p.properties["og:image:secure_url"], p.properties["og:image"], p.properties["og:image:url"], p.twitter["twitter:image"], p.twitter["twitter:image:src"])
	if u, ok := p.resolve(final, p.oembed); ok && (found.Properties["og:title"] == "" || image == "") {
		o := c.oembed(ctx, u)
		for name, value := range o.properties() {
			if found.Properties[name] == "" {
				found.Properties[name] = value
			}
		}
		image = first(image, o.image())
	}
	p.complete(found.Properties)
	if u, ok := p.resolve(final, first(image, p.image)); ok && c.check(u) == nil {
		found.Image = u
	}
	return found, nil
}

// complete adds what the page says of itself outside of OpenGraph.
func (p *page) complete(into map[string]string) {
	for name, value := range map[string]string{
		"og:title":       first(p.twitter["twitter:title"], p.title),
		"og:description": first(p.twitter["twitter:description"], p.description, clean(p.text.String(), maxDescription)),
	} {
		if into[name] == "" && value != "" {
			into[name] = value
		}
	}
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// maxOEmbed bounds an answer of oEmbed, in bytes.
const maxOEmbed = 128 << 10

// oembed is what an oEmbed endpoint says (https://oembed.com, 2.3.4). Its html is not
// used: it is for pages that trust it.
type oembed struct {
	Type      any `json:"type"`
	Title     any `json:"title"`
	Author    any `json:"author_name"`
	Provider  any `json:"provider_name"`
	Thumbnail any `json:"thumbnail_url"`
	URL       any `json:"url"`
}

// oembed asks an endpoint; what is wrong with its answer is as if there were none.
func (c *Client) oembed(ctx context.Context, u *url.URL) (o oembed) {
	if c.check(u) != nil {
		return o
	}
	res, err := c.get(ctx, u, "application/json")
	if err != nil {
		return o
	}
	defer res.Body.Close()
	return readOEmbed(read(res.Body, maxOEmbed))
}

func readOEmbed(data []byte) (o oembed) {
	if json.Unmarshal(data, &o) != nil {
		return oembed{}
	}
	return o
}

func text(v any, most int) string {
	s, _ := v.(string)
	return clean(s, most)
}

// properties are those of OpenGraph that it amounts to.
func (o *oembed) properties() map[string]string {
	out := map[string]string{
		"og:title": text(o.Title, maxText), "og:site_name": text(o.Provider, maxText), "og:description": text(o.Author, maxText),
	}
	if text(o.Type, maxName) == "video" {
		out["og:type"] = "video.other"
	}
	maps.DeleteFunc(out, func(_, value string) bool { return value == "" })
	return out
}

func (o *oembed) image() string {
	if s, _ := o.Thumbnail.(string); s != "" {
		return s
	}
	if s, _ := o.URL.(string); text(o.Type, maxName) == "photo" {
		return s
	}
	return ""
}

// Image requests an image; its reader fails with ErrTooLarge over the limit.
func (c *Client) Image(ctx context.Context, u *url.URL) (body io.ReadCloser, contentType string, err error) {
	if err := c.check(u); err != nil {
		return nil, "", err
	}
	res, err := c.get(ctx, u, "image/*")
	if err != nil {
		return nil, "", err
	}
	if res.ContentLength > c.options.MaxImage {
		_ = res.Body.Close()
		return nil, "", ErrTooLarge
	}
	return &bounded{res.Body, c.options.MaxImage}, kindOf(res), nil
}

// bounded is a body that must not be longer than what is left.
type bounded struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, ErrTooLarge
	}
	return n, err
}
