package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/testwait"
)

func TestWhoseRequestItIs(t *testing.T) {
	n := proxyTo(t, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %q %q %q", r.Host, r.Header["X-Forwarded-For"], r.Header["X-Forwarded-Proto"], r.Header["Authorization"])
		})
	})
	for scheme, at := range map[string]string{"http": n.at.HTTP, "https": n.at.TLS} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, scheme+"://"+at+"/_matrix/client/versions", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "matrix.example.org:8448"
		req.Header.Set("X-Forwarded-For", "198.51.100.7")
		req.Header.Set("X-Forwarded-Proto", "gopher")
		req.Header.Set("Authorization", "Bearer x")
		want := fmt.Sprintf("matrix.example.org:8448 [%q] [%q] [%q]", "127.0.0.1", scheme, "Bearer x")
		if _, got := n.do(t, req); got != want {
			t.Errorf("%s: got %s, want %s", scheme, got, want)
		}
	}
}

// dying is an instance that takes a request and dies before it answers.
func dying(requests *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the client has not gone
		requests.Add(1)
		panic(http.ErrAbortHandler)
	})
}

func TestInstancesThatAreGone(t *testing.T) {
	c := &Cluster{Dir: t.TempDir()}
	addInstance(t, c, "client-api", naming("client-api"))
	c.Instances = append(c.Instances, Instance{Name: "gone", Role: "client-api", Addresses: map[string]string{publicPort: free(t)}})
	var taken atomic.Int64
	addInstance(t, c, "sync-api", naming("sync-api"))
	addInstance(t, c, "sync-api", dying(&taken))
	n := startProxy(t, c, "")

	// Where nobody listens nothing was sent, so any request goes elsewhere.
	for _, method := range []string{"GET", "PUT", "POST", "DELETE"} {
		for range 10 {
			if res, got := n.call(t, method, "/_matrix/client/v3/x", []byte("{}")); res.StatusCode != http.StatusOK {
				t.Fatalf("%s with an instance gone: %s %s", method, res.Status, got)
			}
		}
	}
	// What may have taken effect is sent again only if that is harmless.
	for range 10 {
		if res, got := n.call(t, "GET", "/_matrix/client/v3/sync", nil); res.StatusCode != http.StatusOK {
			t.Fatalf("GET with an instance that dies: %s %s", res.Status, got)
		}
	}
	if taken.Load() == 0 {
		t.Fatal("the instance that dies was never asked")
	}
	refused, before := 0, taken.Load()
	for range 10 {
		if res, got := n.call(t, "POST", "/_matrix/client/v3/sync", []byte("{}")); res.StatusCode != http.StatusOK {
			refused++
			unavailable(t, res, got)
		}
	}
	if refused == 0 || int64(refused) != taken.Load()-before {
		t.Errorf("%d POSTs were refused, %d died", refused, taken.Load()-before)
	}
	// Nobody is there.
	res, got := n.call(t, "GET", "/_matrix/federation/v1/version", nil)
	unavailable(t, res, got)
}

// unavailable checks an answer that nginx gives by itself.
func unavailable(t *testing.T, res *http.Response, body string) {
	t.Helper()
	var answer struct{ Errcode string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Errcode != "M_UNKNOWN" || res.StatusCode != http.StatusBadGateway ||
		res.Header.Get("Retry-After") == "" || res.Header.Get("Access-Control-Allow-Origin") != "*" || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %s %v %s", res.Status, res.Header, body)
	}
}

// TestConnectionsAreKept: those of requests that may be sent again, and not those
// of others, nor of bodies that an instance may not read.
func TestConnectionsAreKept(t *testing.T) {
	n := proxyTo(t, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%s %v", r.RemoteAddr, r.Close)
		})
	})
	const requests = 40 // more than nginx has processes
	for _, c := range []struct {
		method string
		body   int
		kept   bool
	}{{"GET", 0, true}, {"PUT", 100, true}, {"DELETE", 0, true}, {"POST", 100, false}, {"POST", 0, false}, {"PUT", 200_000, false}} {
		seen := map[string]bool{}
		for range requests {
			res, got := n.call(t, c.method, "/_matrix/client/v3/x", make([]byte, c.body))
			if res.StatusCode != http.StatusOK || strings.HasSuffix(got, "true") == c.kept {
				t.Fatalf("%s: %s %s", c.method, res.Status, got)
			}
			seen[got] = true
		}
		if kept := len(seen) < requests; kept != c.kept {
			t.Errorf("%s of %d bytes: %d connections for %d requests", c.method, c.body, len(seen), requests)
		}
	}
}

func TestAnswersComeAsTheyAreWritten(t *testing.T) {
	read := make(chan struct{})
	n := proxyTo(t, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "first")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			select {
			case <-read:
				fmt.Fprintln(w, "second")
			case <-r.Context().Done():
			}
		})
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.at.HTTP+"/_matrix/client/v3/sync", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := n.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, len("first\n"))
	if _, err := io.ReadFull(res.Body, first); err != nil || string(first) != "first\n" {
		t.Fatalf("got %q, %v", first, err)
	}
	close(read)
	if rest, err := io.ReadAll(res.Body); err != nil || string(rest) != "second\n" {
		t.Fatalf("got %q, %v", rest, err)
	}
}

func TestLongPollsAreWaitedFor(t *testing.T) {
	text, err := os.ReadFile("nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\bproxy_read_timeout (\w+);`).FindAllSubmatch(text, -1)
	if len(found) != 1 {
		t.Fatalf("proxy_read_timeout stands there %d times", len(found))
	}
	timeout, err := time.ParseDuration(string(found[0][1]))
	if err != nil {
		t.Fatal(err)
	}
	var sync config.SyncAPI
	sync.Defaults()
	if longest := sync.MaxTimeout + sync.MaxLag; timeout <= longest {
		t.Errorf("nginx gives up after %s, a /sync takes up to %s", timeout, longest)
	}
}

func TestBodies(t *testing.T) {
	n := proxyTo(t, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			size, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, size, err)
		})
	})
	if res, got := n.call(t, "PUT", "/_matrix/client/v3/x", make([]byte, 5<<20)); res.StatusCode != http.StatusOK || got != "5242880 <nil>" {
		t.Errorf("5 MiB: %s %s", res.Status, got)
	}
	res, got := n.call(t, "PUT", "/_matrix/client/v3/x", make([]byte, 17<<20))
	if res.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(got, `"M_TOO_LARGE"`) || res.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("17 MiB: %s %v %s", res.Status, res.Header, got)
	}
	for _, path := range []string{"/_matrix/media/v3/upload", "/_matrix/client/v1/media/x"} {
		if res, got := n.call(t, "POST", path, make([]byte, 40<<20)); res.StatusCode != http.StatusOK || got != "41943040 <nil>" {
			t.Errorf("40 MiB to %s: %s %s", path, res.Status, got)
		}
	}
}

func TestUploadsPassThrough(t *testing.T) {
	arrived := make(chan struct{})
	n := proxyTo(t, func(string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadFull(r.Body, make([]byte, 1)); err != nil {
				t.Error(err)
			}
			close(arrived)
			_, _ = io.Copy(w, r.Body)
		})
	})
	reader, writer := io.Pipe()
	go func() {
		_, _ = writer.Write([]byte("1"))
		<-arrived // only then comes the rest
		_, _ = writer.Write([]byte("23"))
		_ = writer.Close()
	}()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+n.at.HTTP+"/_matrix/media/v3/upload", reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, got := n.do(t, req); got != "23" {
		t.Errorf("got %q", got)
	}
}

// names is a name server that knows one address of each role.
type names struct {
	address atomic.Pointer[net.IP]
	asked   atomic.Int64
}

// serve answers questions about any name with the address.
func (s *names) serve(connection net.PacketConn) {
	question := make([]byte, 512)
	for {
		size, from, err := connection.ReadFrom(question)
		if err != nil {
			return
		}
		s.asked.Add(1)
		var b bytes.Buffer
		b.Write(question[:2])                               // the question's ID
		b.Write([]byte{0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0}) // an answer; one question, one record
		end := 12 + bytes.IndexByte(question[12:size], 0) + 5
		b.Write(question[12:end])
		b.Write([]byte{0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4}) // that name, A, IN, for a second, 4 bytes
		b.Write(*s.address.Load())
		_, _ = connection.WriteTo(b.Bytes(), from)
	}
}

// instanceAt is an instance as a container is: with an address of its own, and
// the port that all have.
func instanceAt(t *testing.T, answer string) net.IP {
	t.Helper()
	for last := range 200 {
		ip := net.IPv4(127, 8, byte(os.Getpid()), byte(last+1)).To4()
		l, err := net.Listen("tcp", net.JoinHostPort(ip.String(), publicPort))
		if err != nil {
			continue
		}
		server := &http.Server{Handler: naming(answer)}
		go func() { _ = server.Serve(l) }() // until it is closed
		t.Cleanup(func() { server.Close() })
		return ip
	}
	t.Fatal("no address below 127.8.0.0/16 has that port free")
	return nil
}

func TestInstancesAreFoundByName(t *testing.T) {
	connection, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	server := &names{}
	first, second := instanceAt(t, "first"), instanceAt(t, "second")
	server.address.Store(&first)
	go server.serve(connection)
	roles, err := os.ReadFile(filepath.Join("..", "deploy", "roles.conf"))
	if err != nil {
		t.Fatal(err)
	}
	const docker = "resolver 127.0.0.11 "
	if !bytes.Contains(roles, []byte(docker)) {
		t.Fatalf("roles.conf has no %q", docker)
	}
	n := startProxy(t, &Cluster{Dir: t.TempDir()}, strings.Replace(string(roles), docker, "resolver "+connection.LocalAddr().String()+" ", 1))
	if _, got := n.call(t, "GET", "/_matrix/client/v3/sync?a=%2F", nil); got != "first GET /_matrix/client/v3/sync?a=%2F" {
		t.Fatalf("got %q", got)
	}
	server.address.Store(&second)
	testwait.Until(t, "the new instance is asked", func() bool {
		_, got := n.call(t, "GET", "/health", nil)
		return got == "second GET /health"
	})
	if server.asked.Load() < 2 {
		t.Error("nginx asked for names once")
	}
}
