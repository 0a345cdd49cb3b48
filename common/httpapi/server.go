package httpapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
)

// Bounds of connections. Bodies and answers have their own deadlines, because
// a request may wait long between the two.
const (
	readHeaderTimeout = 15 * time.Second
	idleTimeout       = 3 * time.Minute
	maxHeaderBytes    = 64 << 10
	defaultGrace      = 10 * time.Second
)

// ServerOptions is what Serve needs besides a listener.
type ServerOptions struct {
	Handler http.Handler
	Logger  *logrus.Entry
	// Grace is how long requests in flight may take to end; zero means 10s.
	Grace time.Duration
	// OnStop, when set, is called once as soon as the server begins to stop: it
	// answers long polls early, as Stopping does.
	OnStop func()
	// TLSCert and TLSKey are PEM files; without them plain HTTP is served.
	TLSCert, TLSKey string
	// ClientCA, if not nil, are the authorities of which clients have to show a
	// certificate.
	ClientCA *x509.CertPool
}

type stoppingKey struct{}

// Stopping returns a channel that is closed when the server that serves the
// request of ctx begins to stop: long polls then answer at once. It is nil,
// which never is ready, where ctx is not from Serve.
func Stopping(ctx context.Context) <-chan struct{} {
	stopping, _ := ctx.Value(stoppingKey{}).(chan struct{})
	return stopping
}

// Serve serves on l until ctx is done. Then it takes no new connections, answers
// the requests of those that it has, and tells them to ask elsewhere, lets
// requests in flight end within the grace, and closes what is left. It returns nil
// after a stop that was asked for; l is closed in any case.
func Serve(ctx context.Context, l net.Listener, o ServerOptions) error {
	grace := o.Grace
	if grace <= 0 {
		grace = defaultGrace
	}
	stopping := make(chan struct{})
	base, cancel := context.WithCancel(context.WithValue(context.Background(), stoppingKey{}, stopping))
	defer cancel()
	connections := newConnections()
	server := &http.Server{
		Handler:           o.Handler,
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnState:         connections.note,
		ErrorLog:          log.New(debugWriter{o.Logger}, "", 0),
	}
	if o.ClientCA != nil {
		server.TLSConfig = &tls.Config{ClientCAs: o.ClientCA, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13}
	}
	served := make(chan error, 1)
	go func() {
		if o.TLSCert != "" || o.TLSKey != "" {
			served <- server.ServeTLS(l, o.TLSCert, o.TLSKey)
			return
		}
		served <- server.Serve(l)
	}()
	select {
	case err := <-served:
		return errors.Join(fmt.Errorf("httpapi: serving %s: %w", l.Addr(), err), server.Close())
	case <-ctx.Done():
	}
	close(stopping)
	if o.OnStop != nil {
		o.OnStop()
	}
	limit, stop := context.WithTimeout(context.Background(), grace)
	defer stop()
	if err := l.Close(); err != nil {
		o.Logger.WithError(err).Warn("Closing a listener failed")
	}
	<-served
	connections.drain(limit)
	if err := server.Shutdown(limit); err != nil {
		o.Logger.WithError(err).Warn("Requests were still in flight at the end of the grace")
		if err := server.Close(); err != nil {
			o.Logger.WithError(err).Warn("Closing connections failed")
		}
	}
	return nil
}

// debugWriter logs what net/http has to say: mostly what clients do wrong.
type debugWriter struct{ logger *logrus.Entry }

func (w debugWriter) Write(line []byte) (int, error) {
	w.logger.Debug(strings.TrimSpace(string(line)))
	return len(line), nil
}
