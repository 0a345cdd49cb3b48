package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMedia: files are uploaded, downloaded in parts, made small, created before
// they are uploaded, quarantined, and there after a restart; in a cluster by whichever
// instance comes first.
func TestMedia(t *testing.T) { everywhere(t, false, media) }

const mediaPath = "/_matrix/client/v1/media"

func media(t *testing.T, s site) {
	alice, bob := register(t, s, "alice"), register(t, s, "bob")
	data := testPicture(t, 900, 600)
	first := alice.upload(t, "POST", "/_matrix/media/v3/upload?filename=p.png", "image/png", data)
	name := strings.TrimPrefix(first.str("content_uri"), "mxc:/")
	for range 4 { // several instances
		a := bob.gets(t, mediaPath+"/download"+name)
		if a.status != 200 || !bytes.Equal(a.raw, data) || a.headers.Get("Content-Type") != "image/png" || a.headers.Get("Content-Disposition") != "inline; filename=p.png" {
			t.Fatalf("%d %v, %d bytes", a.status, a.headers, len(a.raw))
		}
		if a = bob.gets(t, mediaPath+"/download"+name, "Range", "bytes=10-19"); a.status != http.StatusPartialContent || !bytes.Equal(a.raw, data[10:20]) {
			t.Errorf("a range: %d %q", a.status, a.raw)
		}
		a = bob.gets(t, mediaPath+"/thumbnail"+name+"?width=64&height=64&method=crop")
		if m, err := png.Decode(bytes.NewReader(a.raw)); err != nil || m.Bounds().Size() != image.Pt(64, 64) {
			t.Errorf("the thumbnail: %d %v", a.status, err)
		}
	}
	anonymous(s).refused(t, 401, "M_MISSING_TOKEN", "GET", mediaPath+"/download"+name, nil)
	anonymous(s).refused(t, 404, "M_NOT_FOUND", "GET", "/_matrix/media/v3/download"+name, nil)

	created := alice.call(t, "POST", "/_matrix/media/v1/create", nil)
	later := strings.TrimPrefix(created.str("content_uri"), "mxc:/")
	bob.refused(t, 504, "M_NOT_YET_UPLOADED", "GET", mediaPath+"/download"+later+"?timeout_ms=0", nil)
	waited := make(chan *answer, 1)
	go func() { waited <- bob.gets(t, mediaPath+"/download"+later+"?timeout_ms=20000") }()
	alice.upload(t, "PUT", "/_matrix/media/v3/upload"+later, "text/plain", []byte("late"))
	if a := <-waited; a.status != 200 || string(a.raw) != "late" {
		t.Errorf("who waited: %d %s", a.status, a.raw)
	}
	alice.refused(t, 409, "M_CANNOT_OVERWRITE_MEDIA", "PUT", "/_matrix/media/v3/upload"+later, "other")

	room := alice.createRoom(t, object{"preset": "public_chat"})
	alice.call(t, "PUT", fmt.Sprintf("/rooms/%s/send/m.room.message/m", url.PathEscape(room)), object{"msgtype": "m.image", "body": "p.png", "url": "mxc:/" + name})
	restartRole(t, s, "media-api")
	if a := bob.gets(t, mediaPath+"/download"+name); a.status != 200 || !bytes.Equal(a.raw, data) {
		t.Errorf("after a restart: %d", a.status)
	}
	mediaAdmin(t, s, alice, bob, room, name, data)
}

// mediaAdmin quarantines and deletes while servers run.
func mediaAdmin(t *testing.T, s site, alice, bob *user, room, name string, data []byte) {
	var listed struct {
		URI    string `json:"uri"`
		SHA256 string `json:"sha256"`
	}
	lines := strings.Split(strings.TrimSpace(administer(t, s, "media", "list", "--json", "--user", alice.id)), "\n")
	if len(lines) != 2 || json.Unmarshal([]byte(lines[1]), &listed) != nil || listed.URI != "mxc:/"+name {
		t.Fatalf("alice's media: %q", lines)
	}
	if out := administer(t, s, "media", "quarantine", "--room", room); !strings.Contains(out, "1 media changed") {
		t.Errorf("of the room: %s", out)
	}
	for range 4 {
		bob.refused(t, 404, "M_NOT_FOUND", "GET", mediaPath+"/download"+name, nil)
		bob.refused(t, 404, "M_NOT_FOUND", "GET", mediaPath+"/thumbnail"+name+"?width=64&height=64&method=crop", nil)
	}
	administer(t, s, "media", "unquarantine", "--mxc", "mxc:/"+name)
	if a := bob.gets(t, mediaPath+"/download"+name); a.status != 200 {
		t.Errorf("given back: %d", a.status)
	}
	administer(t, s, "media", "quarantine", "--hash", listed.SHA256)
	bob.refused(t, 403, "M_FORBIDDEN", "POST", "/_matrix/media/v3/upload", data)
	administer(t, s, "media", "delete", "--user", alice.id)
	if out := administer(t, s, "media", "list", "--json", "--user", alice.id); out != "" {
		t.Errorf("after the deletion: %s", out)
	}
	for deadline := time.Now().Add(time.Minute); ; pause(t.Context(), 100*time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(mediaFolder(s), "*", "*", listed.SHA256+"-*"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a minute after its media were deleted a file is there: %v", files)
		}
	}
}

// mediaFolder is where the files are.
func mediaFolder(s site) string {
	switch s := s.(type) {
	case *server:
		return filepath.Join(s.data, "media")
	case *cluster:
		return filepath.Join(s.dir, "media")
	}
	panic("no such site")
}

// administer runs dendrite-admin beside running servers.
func administer(t *testing.T, s site, args ...string) string {
	t.Helper()
	switch s := s.(type) {
	case *cluster:
		return s.admin(t, args...)
	case *server:
		args = append(args, "--data", s.data, "--server-name", "localhost")
		out, err := exec.Command(filepath.Join(must(t, shared.binaries), "dendrite-admin"), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("dendrite-admin %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	t.Fatal("no such site")
	return ""
}

func testPicture(t *testing.T, width, height int) []byte {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			m.SetNRGBA(x, y, color.NRGBA{uint8(x), uint8(y), uint8(x * y), 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// upload sends a file.
func (u *user) upload(t testing.TB, method, path, contentType string, data []byte) *answer {
	t.Helper()
	a := u.raw(t, method, path, data, "Content-Type", contentType)
	if err := json.Unmarshal(a.raw, &a.body); err != nil || a.status != http.StatusOK {
		t.Fatalf("%s %s: %d %s", method, path, a.status, a.raw)
	}
	return a
}

// gets gets a file; headers are pairs.
func (u *user) gets(t testing.TB, path string, headers ...string) *answer {
	t.Helper()
	return u.raw(t, "GET", path, nil, headers...)
}

func (u *user) raw(t testing.TB, method, path string, data []byte, headers ...string) *answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, u.s.base()+path, bytes.NewReader(data))
	if err != nil {
		t.Error(err)
		return &answer{}
	}
	req.Header.Set("Authorization", "Bearer "+u.token)
	for n := 0; n+1 < len(headers); n += 2 {
		req.Header.Set(headers[n], headers[n+1])
	}
	res, err := u.http.Do(req)
	if err != nil {
		t.Error(err)
		return &answer{}
	}
	defer res.Body.Close()
	a := &answer{status: res.StatusCode, headers: res.Header}
	if a.raw, err = io.ReadAll(res.Body); err != nil {
		t.Error(err)
	}
	return a
}
