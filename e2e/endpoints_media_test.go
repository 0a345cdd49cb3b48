package e2e

import (
	"bytes"
	"fmt"
	"image/png"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// media by the endpoints of now and by those of old.
func (w *town) media(t *testing.T) {
	const old = "/_matrix/media/v3"
	data := testPicture(t, 200, 100)
	name := strings.TrimPrefix(w.alice.upload(t, "POST", old+"/upload?filename=w.png", "image/png", data).str("content_uri"), "mxc:/")
	stranger := anonymous(w.s)
	for _, path := range []string{mediaPath, old} {
		if got := w.alice.call(t, "GET", path+"/config", nil); got.body["m.upload.size"] != float64(50<<20) {
			t.Errorf("%s/config: %s", path, got.raw)
		}
		who := w.bob
		if path == old {
			who = stranger // what was uploaded before the day is for all
		}
		for _, rest := range []string{"", "/other.png"} {
			got := who.gets(t, path+"/download"+name+rest)
			if got.status != 200 || !bytes.Equal(got.raw, data) {
				t.Errorf("%s/download%s: %d, %d bytes", path, rest, got.status, len(got.raw))
			}
			if file := "filename=w.png"; rest == "" && !strings.Contains(got.headers.Get("Content-Disposition"), file) || rest != "" && !strings.Contains(got.headers.Get("Content-Disposition"), "filename=other.png") {
				t.Errorf("%s/download%s is %q", path, rest, got.headers.Get("Content-Disposition"))
			}
		}
		got := who.gets(t, path+"/thumbnail"+name+"?width=32&height=32&method=crop")
		if _, err := png.Decode(bytes.NewReader(got.raw)); got.status != 200 || err != nil {
			t.Errorf("%s/thumbnail: %d %v", path, got.status, err)
		}
		refuseAll(t, []refusal{
			{who, 404, "M_NOT_FOUND", "GET", path + "/download/localhost/none", nil},
			{who, 404, "M_NOT_FOUND", "GET", path + "/download/localhost/none/x.png", nil},
			{who, 404, "M_NOT_FOUND", "GET", path + "/thumbnail/localhost/none?width=32&height=32", nil},
			{who, 400, "M_MISSING_PARAM", "GET", path + "/thumbnail" + name, nil},
			{stranger, 401, "M_MISSING_TOKEN", "GET", path + "/config", nil},
			{stranger, 401, "M_MISSING_TOKEN", "GET", path + "/preview_url?url=http://example.org", nil},
		})
	}
	mine := strings.TrimPrefix(w.alice.call(t, "POST", "/_matrix/media/v1/create", nil).str("content_uri"), "mxc:/")
	refuseAll(t, []refusal{
		{stranger, 401, "M_MISSING_TOKEN", "POST", "/_matrix/media/v1/create", nil},
		{stranger, 401, "M_MISSING_TOKEN", "POST", old + "/upload", "x"},
		{w.bob, 403, "M_FORBIDDEN", "PUT", old + "/upload" + mine, "x"},
		{w.alice, 404, "M_NOT_FOUND", "PUT", old + "/upload/localhost/none", "x"},
	})
}

// startPage serves a page on the web.
func startPage(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Type", "text/html")
		fmt.Fprint(out, `<html><head><title>Cakes</title><meta property="og:title" content="Cakes of the world"></head></html>`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// previews of pages, for who sends a link.
func (w *town) previews(t *testing.T) {
	for _, path := range []string{mediaPath, "/_matrix/media/v3"} {
		preview := path + "/preview_url?url="
		if got := w.alice.call(t, "GET", preview+url.QueryEscape(w.page), nil); got.str("og:title") != "Cakes of the world" {
			t.Errorf("the page is %s", got.raw)
		}
		refuseAll(t, []refusal{
			{w.alice, 400, "M_MISSING_PARAM", "GET", path + "/preview_url", nil},
			{w.alice, 400, "M_INVALID_PARAM", "GET", preview + "nonsense", nil},
			{w.alice, 502, "M_UNKNOWN", "GET", preview + url.QueryEscape("http://10.0.0.1/"), nil},
		})
	}
}
