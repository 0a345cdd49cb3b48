package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestInternalListener: health, metrics and profiles are on an address of their
// own, and never on the public one.
func TestInternalListener(t *testing.T) {
	s := newServer(t)
	disk := newDisk(t, s)
	address := freeAddress(t)
	s.env = append(s.env, "DENDRITE_METRICS_LISTEN="+address, "DENDRITE_METRICS_PROFILES=true", "DENDRITE_CLIENT_API_WRITER_ANSWER_TIMEOUT=1s")
	s.start()
	alice := register(t, s, "alice")
	room := alice.createRoom(t, object{})
	for _, path := range []string{"/live", "/ready", "/metrics", "/debug/pprof/heap"} {
		if status, body := internal(t, address, path); status != 200 {
			t.Errorf("%s: %d %s", path, status, body)
		}
		if status, body := internal(t, strings.TrimPrefix(s.base(), "http://"), path); status != 404 {
			t.Errorf("%s is public: %d %s", path, status, body)
		}
	}
	// The log has room longer than the store: what it has taken cannot be consumed.
	disk.fill(60000)
	alice.sendUntilRefused(t, room, map[string]string{})
	if status, body := internal(t, address, "/live"); status != 200 {
		t.Errorf("/live on a full disk: %d %s", status, body)
	}
	disk.empty()
	untilReady(t, address, 200)
	disk.fill(60000) // and nobody writes
	if body := untilReady(t, address, 503); !strings.Contains(body, "disk") {
		t.Errorf("/ready on a full disk: %s", body)
	}
	disk.empty()
	untilReady(t, address, 200)
}

// untilReady asks /ready until it answers with a status, and returns its body.
func untilReady(t *testing.T, address string, want int) string {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; pause(t.Context(), 200*time.Millisecond) {
		status, body := internal(t, address, "/ready")
		if status == want {
			return body
		}
		if time.Now().After(deadline) {
			t.Fatalf("/ready: %d %s, want %d", status, body, want)
		}
	}
}

func internal(t *testing.T, address, path string) (status int, body string) {
	t.Helper()
	res, err := http.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

// host is an address of this machine that these tests have for themselves: other
// packages' tests run at the same time.
var host = fmt.Sprintf("127.83.%d.%d", os.Getpid()>>8&0xff, os.Getpid()&0xff)

// nextPort is where freeAddress looks next.
var nextPort atomic.Uint32

// freeAddress is one that nobody listens on now, another one each time, and below
// the ports of outgoing connections, so that it stays free.
func freeAddress(t testing.TB) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, 12000+nextPort.Add(1)%20000))
		if errors.Is(err, syscall.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
}
