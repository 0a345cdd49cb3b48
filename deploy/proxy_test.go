package deploy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/testwait"
)

// services of this repository.
func services(t *testing.T) *Services {
	t.Helper()
	s, err := Load(t.Context(), "..", "example.org")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// free returns an address that nobody listens at.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// nginx is a running proxy.
type nginx struct {
	at     ProxyAt
	client *http.Client
}

// roleHandler is what an instance of a role answers.
type roleHandler func(role string) http.Handler

// proxyTo starts nginx before one instance of each role.
func proxyTo(t *testing.T, handler roleHandler) *nginx {
	t.Helper()
	c := &Cluster{Dir: t.TempDir()}
	for _, role := range services(t).Roles() {
		addInstance(t, c, role, handler(role))
	}
	return startProxy(t, c, "")
}

// addInstance starts an instance of a role.
func addInstance(t *testing.T, c *Cluster, role string, handler http.Handler) {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	c.Instances = append(c.Instances, Instance{Name: role, Role: role, Addresses: map[string]string{publicPort: server.Listener.Addr().String()}})
}

// startProxy starts nginx before a cluster, with another roles.conf if one is
// given.
func startProxy(t *testing.T, c *Cluster, roles string) *nginx {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		program = "/usr/sbin/nginx" // where Debian has it, outside the users' path
	}
	writeCertificate(t, c.Volume("tls"))
	n := &nginx{at: ProxyAt{HTTP: free(t), TLS: free(t)}, client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		// One connection each, so that every request is a client's first.
		DisableKeepAlives: true,
	}}}
	arguments, err := services(t).WriteProxy(c, n.at)
	if err != nil {
		t.Fatal(err)
	}
	if roles != "" {
		if err := os.WriteFile(filepath.Join(c.Dir, Proxy, "roles.conf"), []byte(roles), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(program, append(arguments, "-t")...).CombinedOutput(); err != nil {
		t.Fatalf("nginx does not take the configuration (scripts/test-dependencies installs it): %v\n%s", err, out)
	}
	var said bytes.Buffer
	command := exec.CommandContext(t.Context(), program, arguments...)
	command.Stderr = &said
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = command.Wait(); close(ended) }() // it ends by a signal
	t.Cleanup(func() {
		<-ended
		if t.Failed() {
			t.Logf("nginx said:\n%s", said.String())
		}
	})
	testwait.Until(t, "nginx listens", func() bool {
		connection, err := net.Dial("tcp", n.at.HTTP)
		if err != nil {
			return false
		}
		return connection.Close() == nil
	})
	return n
}

// writeCertificate makes tls.crt and tls.key.
func writeCertificate(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"example.org"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// call sends a request to the proxy, and returns the answer with its body read.
func (n *nginx) call(t *testing.T, method, path string, body []byte) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+n.at.HTTP+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return n.do(t, req)
}

func (n *nginx) do(t *testing.T, req *http.Request) (*http.Response, string) {
	t.Helper()
	res, err := n.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var text strings.Builder
	if _, err := io.Copy(&text, res.Body); err != nil {
		t.Fatal(err)
	}
	return res, text.String()
}
