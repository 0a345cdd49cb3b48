package roles

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	stdlog "log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/sirupsen/logrus"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/eventlog/kafka/kafkatest"
	"github.com/matrix-org/dendrite/common/httpapi"
	userapi "github.com/matrix-org/dendrite/userapi/api"
)

// authority signs certificates of processes.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key = a.sign("ca", template)
	return a
}

// sign writes a certificate and its key, by the authority once it has one itself.
func (a *authority) sign(name string, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".crt": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(a.dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// process gives a process a certificate.
func (a *authority) process(name string, c *config.Internal) {
	a.sign(name, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	c.TLSCert, c.TLSKey, c.TLSCA = filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key"), filepath.Join(a.dir, "ca.crt")
}

const internalSecret = "the-secret-of-all-processes"

// part is the configuration of a process of a cluster.
func part(t *testing.T, b kafkatest.Broker, privateKey string) *config.Dendrite {
	c := configuration(t)
	c.Global.PrivateKey = privateKey
	c.EventLog.Kafka.Brokers, c.EventLog.Kafka.TopicPrefix = b.Brokers, b.Prefix
	c.Registration.Open = true
	c.Internal.Secret = internalSecret
	return c
}

// TestProcessesKnowEachOther: two processes with certificates of one authority
// talk; who has none, or another's, or does not know the secret, is refused; and
// nobody gets from outside to where they talk.
func TestProcessesKnowEachOther(t *testing.T) {
	b, trusted, foreign := kafkatest.Start(t), newAuthority(t), newAuthority(t)
	privateKey := filepath.Join(t.TempDir(), "signing.key")
	inner := part(t, b, privateKey)
	inner.Internal.Listen = "127.0.0.1:0"
	trusted.process("inner", &inner.Internal)
	within := launch(t, inner, "room-server", "user-api", "directory-api")
	address := within.ready().Internal.String()

	outer := part(t, b, privateKey)
	outer.Internal.Listen = "127.0.0.1:0" // the sync-api is asked, too
	trusted.process("outer", &outer.Internal)
	outer.Internal.RoomServer, outer.Internal.UserAPI, outer.Internal.DirectoryAPI = []string{address}, []string{address}, []string{address}
	public := launch(t, outer, "client-api", "sync-api").ready().Public.String()
	live(t, "http://"+public)
	notServed(t, "http://"+public, outer.Internal.Secret)

	var none, other config.Internal
	foreign.process("stranger", &other)
	for name, c := range map[string]struct {
		client *http.Client
		secret string
		status int // 0: no answer at all
	}{
		"a process":            {shows(t, &outer.Internal, trusted), outer.Internal.Secret, 200},
		"a wrong secret":       {shows(t, &outer.Internal, trusted), outer.Internal.Secret + "x", 401},
		"no secret":            {shows(t, &outer.Internal, trusted), "", 401},
		"no certificate":       {shows(t, &none, trusted), outer.Internal.Secret, 0},
		"of another authority": {shows(t, &other, trusted), outer.Internal.Secret, 0},
		"who trusts another":   {shows(t, &outer.Internal, foreign), outer.Internal.Secret, 0},
	} {
		status, err := ask(t, c.client, "https://"+address, c.secret)
		if status != c.status || (c.status == 0) != (err != nil) {
			t.Errorf("%s: %d, %v", name, status, err)
		}
	}
	if status, err := ask(t, http.DefaultClient, "http://"+address, outer.Internal.Secret); err == nil && status < 400 {
		t.Errorf("without TLS: %d", status)
	}
}

// shows is a client with a process's certificate, if it has one.
func shows(t *testing.T, c *config.Internal, trusts *authority) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(trusts.cert)
	secure := &tls.Config{RootCAs: pool}
	if c.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
		if err != nil {
			t.Fatal(err)
		}
		// Whatever the server says whom it trusts.
		secure.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	transport := &http.Transport{TLSClientConfig: secure}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: soon}
}

// ask makes a harmless call.
func ask(t *testing.T, client *http.Client, base, secret string) (status int, err error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", base+"/internal/v1/userapi/heads", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, res.Body)
	return res.StatusCode, httpClosed(res, err)
}

func httpClosed(res *http.Response, err error) error {
	if e := res.Body.Close(); err == nil {
		err = e
	}
	return err
}

// live registers a user who makes a room and sees it: asks every service.
func live(t *testing.T, base string) {
	t.Helper()
	call := func(method, path, token, body string, into any) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, base+"/_matrix/client/v3"+path, bytes.NewBufferString(body))
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(res.Body)
		if err = httpClosed(res, err); err != nil || res.StatusCode != 200 {
			t.Fatalf("%s %s: %d %s %v", method, path, res.StatusCode, answer, err)
		}
		if err := json.Unmarshal(answer, into); err != nil {
			t.Fatal(err)
		}
	}
	var user struct {
		Token string `json:"access_token"`
	}
	call("POST", "/register", "", `{"username":"alice","password":"correct horse","auth":{"type":"m.login.dummy"}}`, &user)
	var room struct {
		ID string `json:"room_id"`
	}
	call("POST", "/createRoom", user.Token, `{"room_alias_name":"here"}`, &room)
	var sync struct {
		Rooms struct {
			Join map[string]any `json:"join"`
		} `json:"rooms"`
	}
	call("GET", "/sync?timeout=0", user.Token, "", &sync)
	if _, ok := sync.Rooms.Join[room.ID]; !ok || len(sync.Rooms.Join) != 1 {
		t.Errorf("/sync shows %v, not %s", sync.Rooms.Join, room.ID)
	}
}

// notServed checks that a public listener does not know the internal API.
func notServed(t *testing.T, base, secret string) {
	t.Helper()
	for _, path := range []string{"/internal/v1/userapi/heads", "/internal/", "//internal/v1/userapi/heads", "/_matrix/../internal/v1/userapi/heads",
		"/_matrix/client/%2e%2e/%2e%2e/internal/v1/userapi/heads", "/metrics", "/debug/pprof/"} {
		for _, method := range []string{"POST", "GET"} {
			req, err := http.NewRequestWithContext(t.Context(), method, base+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+secret)
			res, err := http.DefaultTransport.RoundTrip(req) // follows nothing
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err = httpClosed(res, err); err != nil || res.StatusCode < 300 || bytes.Contains(body, []byte("Seqs")) {
				t.Errorf("%s %s: %d %s %v", method, path, res.StatusCode, body, err)
			}
		}
	}
}

// TestPublicListeners: no role has an endpoint that is not a public one, and a
// process that runs all of them keeps the two kinds apart.
func TestPublicListeners(t *testing.T) {
	c := configuration(t)
	c.Internal.Listen, c.Internal.Secret = "127.0.0.1:0", internalSecret
	at := launch(t, c).ready()
	if status, err := ask(t, http.DefaultClient, "http://"+at.Internal.String(), c.Internal.Secret); err != nil || status != 200 {
		t.Errorf("the internal listener answers %d, %v", status, err)
	}
	if status, err := ask(t, http.DefaultClient, "http://"+at.Internal.String(), "another-secret-of-processes"); err != nil || status != 401 {
		t.Errorf("who does not know the secret is answered %d, %v", status, err)
	}
	notServed(t, "http://"+at.Public.String(), c.Internal.Secret)

	logger := logrus.New()
	logger.SetOutput(t.Output())
	p := newProcess(configuration(t), logger)
	defer p.close()
	if err := p.open(t.Context(), table()); err != nil {
		t.Fatal(err)
	}
	for i, role := range p.roles {
		e, ok := role.(endpoints)
		if !ok {
			continue
		}
		for _, endpoint := range e.Endpoints() {
			if !public(endpoint) || !p.specs[i].public {
				t.Errorf("%s serves %+v", p.specs[i].name, endpoint.Path)
			}
		}
	}
}

// public tells of an endpoint whether the specification, or we, publish it.
func public(e httpapi.Endpoint) bool {
	for _, prefix := range []string{"/_matrix/", "/.well-known/matrix/", "/_synapse/admin/", "/_dendrite/"} {
		if strings.HasPrefix(e.Path, prefix) {
			return true
		}
	}
	return e.Path == "/{$}" || e.Path == "/health" // a greeting, and for a proxy
}

// TestImpostor: a process says nothing, its secret least, to one that does not
// show a certificate of its authority.
func TestImpostor(t *testing.T) {
	trusted, foreign := newAuthority(t), newAuthority(t)
	var theirs config.Internal
	foreign.process("impostor", &theirs)
	pair, err := tls.LoadX509KeyPair(theirs.TLSCert, theirs.TLSKey)
	if err != nil {
		t.Fatal(err)
	}
	reached := make(chan string, 10)
	impostor := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached <- r.URL.Path }))
	impostor.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	impostor.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	impostor.StartTLS()
	defer impostor.Close()

	c := configuration(t)
	c.Internal.Secret = internalSecret
	c.Internal.UserAPI = []string{impostor.Listener.Addr().String()}
	trusted.process("process", &c.Internal)
	logger := logrus.New()
	logger.SetOutput(t.Output())
	p := newProcess(c, logger)
	defer p.close()
	caller, err := p.callOthers(map[string]bool{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := userapi.QueryHeads.Call(ctx, caller, &userapi.HeadsRequest{}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("the impostor is asked: %v", err)
	}
	select {
	case path := <-reached:
		t.Errorf("the impostor got %s", path)
	default:
	}
}
