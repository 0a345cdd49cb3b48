package kafka_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/matrix-org/dendrite/common/eventlog"
	"github.com/matrix-org/dendrite/common/eventlog/kafka"
	"github.com/matrix-org/dendrite/common/eventlog/kafka/kafkatest"
)

// certificate makes a certificate for the loopback address, signed by itself,
// and a file with it and its key.
func certificate(t *testing.T) (path string, trusted *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "broker"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	path = filepath.Join(t.TempDir(), "broker.pem")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	trusted = x509.NewCertPool()
	trusted.AddCert(certificate)
	return path, trusted
}

// TestSecure: TLS with each SASL mechanism; what is refused is said at once.
func TestSecure(t *testing.T) {
	t.Parallel() // it has a broker of its own
	path, trusted := certificate(t)
	cluster := kafkatest.StartCluster(t, "--tls", path, "--user", "dendrite:correct horse")
	with := func(mechanism, password string, roots *x509.CertPool) func(*kafka.Options) {
		return func(o *kafka.Options) {
			o.TLS = &tls.Config{RootCAs: roots}
			o.SASL = &kafka.SASL{Mechanism: mechanism, User: "dendrite", Password: password}
		}
	}
	for i, mechanism := range []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"} {
		t.Run(mechanism, func(t *testing.T) {
			log := open(t, cluster.Broker, with(mechanism, "correct horse", trusted))
			ensure(t, log, eventlog.TopicSpec{Name: "a", Partitions: 1})
			offsets, err := log.Append(t.Context(), eventlog.Message{Topic: "a", Value: []byte(mechanism)})
			if err != nil || offsets[0] != int64(i) {
				t.Fatal(offsets, err)
			}
			if r, err := log.Read(t.Context(), "a", 0, int64(i), 1); err != nil || string(r[0].Value) != mechanism {
				t.Fatal(r, err)
			}
		})
	}
	for name, change := range map[string]func(*kafka.Options){
		"password":    with("SCRAM-SHA-512", "wrong", trusted),
		"certificate": with("SCRAM-SHA-512", "correct horse", x509.NewCertPool()),
		"mechanism":   with("ANONYMOUS", "", trusted),
	} {
		t.Run("wrong "+name, func(t *testing.T) {
			o := cluster.Options(t)
			change(&o)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := kafka.Open(ctx, o)
			if err == nil || errors.Is(err, eventlog.ErrUnavailable) || ctx.Err() != nil {
				t.Errorf("it was not refused: %v", err)
			}
		})
	}
}

// TestNoBroker: Open waits until its context is done.
func TestNoBroker(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := kafka.Open(ctx, kafkatest.Broker{Brokers: []string{address}}.Options(t)); !errors.Is(err, eventlog.ErrUnavailable) {
		t.Errorf("without brokers: %v", err)
	}
}
