package e2e

import (
	"bytes"
	"fmt"
	"image"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/testwait"
)

// Bounds of what strangers' files and pages may cost. Memory is that of the process
// without the race detector: all of the thumbnails' budget of 128 MiB, what Go's
// collector has not given back yet, and uploads on their way.
const (
	hostileMemory  = 300 << 10 // KiB above that at the beginning
	hostileTime    = 20 * time.Second
	hostilePause   = 5 * time.Second // till others are answered meanwhile
	hostileUpload  = 20 << 20
	previewTimeout = 3 * time.Second
)

var hostileSettings = []string{
	"DENDRITE_MEDIA_API_THUMBNAILS_MEMORY_BYTES=" + strconv.Itoa(128<<20), "DENDRITE_MEDIA_API_MAX_UPLOAD_BYTES=" + strconv.Itoa(hostileUpload),
	"DENDRITE_MEDIA_API_URL_PREVIEW_ALLOW_RANGES=127.0.0.1/32", "DENDRITE_MEDIA_API_URL_PREVIEW_MAX_AT_ONCE=64", "DENDRITE_MEDIA_API_URL_PREVIEW_TIMEOUT=" + previewTimeout.String(), "GOMEMLIMIT=",
}

// TestHostileMedia: whatever is uploaded or looked at, it is refused or served so that
// no browser runs it, in time, with bounded memory, and others are answered meanwhile.
func TestHostileMedia(t *testing.T) {
	inBoth(t, func(t *testing.T) {
		s := newServer(t, hostileSettings...)
		s.binary = filepath.Join(must(t, shared.plain), "dendrite")
		s.start()
		hostile(t, s, s, s.pid())
	}, func(t *testing.T) {
		one := map[string]int{}
		for _, role := range allRoles {
			one[role] = 1
		}
		c := startCluster(t, clusterOptions{instances: one, env: hostileSettings, stopped: true})
		p := c.reachable("media-api")[0]
		p.binary = filepath.Join(must(t, shared.plain), binaryOf(p.role))
		c.startAll()
		hostile(t, c, address("http://"+p.public), p.cmd.Process.Pid)
	})
}

// address is a site that is one process.
type address string

// base implements site.
func (a address) base() string { return string(a) }

// watched implements site: nobody watches, past the door.
func (a address) watched(t http.RoundTripper) http.RoundTripper { return t }

// buildPlain builds what serves media without the race detector, which multiplies the
// memory of a process, into one folder.
func buildPlain(to string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-o", to+string(filepath.Separator), "./cmd/dendrite", "./cmd/dendrite-media-api-server")
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building without the race detector: %w\n%s", err, out)
	}
	return nil
}

// victim is the process that serves media.
type victim struct {
	*user
	t      *testing.T
	before int // KiB
	pid    int
}

func hostile(t *testing.T, s, at site, pid int) {
	v := &victim{user: register(t, s, "mallory"), t: t, pid: pid}
	v.s = at
	v.before = v.memory("VmRSS")
	other := *register(t, s, "alice")
	other.s = at
	watched := other.watch(t)
	t.Run("files", v.files)
	t.Run("uploads", func(t *testing.T) { v.uploads(t, filepath.Join(mediaFolder(s), "spool")) })
	t.Run("pages", v.pages)
	watched()
	if most := v.memory("VmHWM"); most > v.before+hostileMemory {
		t.Errorf("%d MiB of memory were used, %d at the beginning", most>>10, v.before>>10)
	} else {
		t.Logf("memory: %d MiB at most, %d at the beginning", most>>10, v.before>>10)
	}
}

// memory is a size in /proc, in KiB.
func (v *victim) memory(name string) int {
	v.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.pid))
	if err != nil {
		v.t.Fatalf("the process has ended: %v", err)
	}
	_, rest, _ := strings.Cut(string(text), name+":")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		v.t.Fatal(err)
	}
	return n
}

// watch gets a small file again and again; the function returned ends that.
func (u *user) watch(t *testing.T) func() {
	t.Helper()
	name := strings.TrimPrefix(u.upload(t, "POST", "/_matrix/media/v3/upload", "text/plain", []byte("hello")).str("content_uri"), "mxc:/")
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			began := time.Now()
			if a := u.gets(t, mediaPath+"/download"+name); a.status != 200 || string(a.raw) != "hello" {
				t.Errorf("somebody else is answered %d %s", a.status, a.raw)
				return
			}
			if took := time.Since(began); took > hostilePause {
				t.Errorf("somebody else waits %v for an answer", took)
			}
			select {
			case <-stop:
				t.Logf("%d answers to somebody else meanwhile", n)
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() { close(stop); <-done }
}

// files uploads hostile files; all are served as they are, and safely. Thumbnails of all
// are asked for at once, in many sizes.
func (v *victim) files(t *testing.T) {
	var all sync.WaitGroup
	for _, f := range append(hostileImages(t), hostilePages(t)...) {
		all.Go(func() {
			a := v.upload(t, "POST", "/_matrix/media/v3/upload?filename=f%22%0d%0a.html", f.contentType, f.data)
			name := strings.TrimPrefix(a.str("content_uri"), "mxc:/")
			a = v.gets(t, mediaPath+"/download"+name)
			if a.status != 200 || !bytes.Equal(a.raw, f.data) {
				t.Errorf("%s: %d, %d bytes", f.name, a.status, len(a.raw))
			}
			safe(t, &f, a)
			for n := range 8 {
				all.Go(func() { v.thumbnail(t, &f, name, n) })
			}
		})
	}
	all.Wait()
}

// safe tells of headers that would let a browser run a file.
func safe(t *testing.T, f *hostileFile, a *answer) {
	how, _, _ := strings.Cut(a.headers.Get("Content-Disposition"), ";")
	if want := map[bool]string{true: "inline", false: "attachment"}[f.inline]; how != want {
		t.Errorf("%s: Content-Disposition is %q, want %s", f.name, a.headers.Get("Content-Disposition"), want)
	}
	if a.headers.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(a.headers.Get("Content-Security-Policy"), "sandbox; default-src 'none'; script-src 'none';") {
		t.Errorf("%s: %v", f.name, a.headers)
	}
}

// thumbnail asks for one of a size of its own. Who asks while many are made is told to
// come again.
func (v *victim) thumbnail(t *testing.T, f *hostileFile, name string, n int) {
	began := time.Now()
	path := fmt.Sprintf("%s/thumbnail%s?width=%d&height=%d&method=crop&animated=true", mediaPath, name, 40+n, 50+n)
	var a *answer
	testwait.Until(t, "a thumbnail's turn", func() bool {
		a = v.gets(t, path)
		return a.status != http.StatusServiceUnavailable
	})
	if took := time.Since(began); a.status != f.thumbnail || took > hostileTime {
		t.Errorf("the thumbnail of %s: %d %.200s after %v, want %d", f.name, a.status, a.raw, took, f.thumbnail)
	}
	if a.status != 200 {
		return
	}
	// What is not larger than asked for is shown as it is, but never larger.
	if c, _, err := image.DecodeConfig(bytes.NewReader(a.raw)); err != nil || c.Width > 200 || c.Height > 200 {
		t.Errorf("the thumbnail of %s: %+v %v", f.name, c, err)
	}
	if bytes.Contains(a.raw, []byte(scripted)) {
		t.Errorf("the thumbnail of %s has its script", f.name)
	}
}

// endless is a body without an end, of which the client may still read when it has its
// answer.
type endless struct{ given atomic.Int64 }

// Read implements io.Reader.
func (e *endless) Read(p []byte) (int, error) {
	e.given.Add(int64(len(p)))
	return len(p), nil
}

// uploads sends more than is allowed, in every way; nothing of it is left.
func (v *victim) uploads(t *testing.T, spool string) {
	ask := func(name string, length int64, body io.Reader) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", v.s.base()+"/_matrix/media/v3/upload", body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		req.Header.Set("Authorization", "Bearer "+v.token)
		began := time.Now()
		res, err := v.http.Do(req)
		if err == nil {
			defer res.Body.Close()
		}
		// Who does not listen while it sends may see no more than a closed connection.
		if err == nil && res.StatusCode != http.StatusRequestEntityTooLarge && res.StatusCode != http.StatusBadRequest || time.Since(began) > hostileTime {
			t.Errorf("%s: %v %v after %v", name, res, err, time.Since(began))
		}
	}
	announced, silent := &endless{}, &endless{}
	ask("10 GB, announced", 10<<30, announced)
	ask("endless", -1, silent)
	ask("shorter than announced", 1000, strings.NewReader("short"))
	if a, b := announced.given.Load(), silent.given.Load(); a > hostileUpload || b > 2*hostileUpload {
		t.Errorf("%d bytes of what was announced were read, and %d of what was not", a, b)
	}
	testwait.Until(t, "nothing is left of uploads", func() bool {
		files, err := os.ReadDir(spool)
		return err == nil && len(files) == 0
	})
}

// pages has hostile pages looked at, all at once.
func (v *victim) pages(t *testing.T) {
	web := newHostileWeb(t)
	var all sync.WaitGroup
	for name, page := range web.pages() {
		all.Go(func() {
			began := time.Now()
			a := v.gets(t, mediaPath+"/preview_url?url="+url.QueryEscape(page.url))
			if took := time.Since(began); took > previewTimeout+hostilePause {
				t.Errorf("%s: an answer after %v", name, took)
			}
			said := string(a.raw)
			if a.status != page.status || page.says != "" && !strings.Contains(said, page.says) || strings.Contains(said, "og:image") || len(said) > 10<<10 {
				t.Errorf("%s: %d %.500s, want %d %s", name, a.status, said, page.status, page.says)
			}
		})
	}
	all.Wait()
	if n := web.reached.Load(); n > 0 {
		t.Errorf("an address inside was reached %d times", n)
	}
}
