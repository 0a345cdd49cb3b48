// Command generate-keys makes a signing key, and a certificate for tests of
// federation. It never replaces a file: one that is there already is an error, or
// with --keep what was to be made.
//
//	generate-keys --private-key data/signing.key
//	generate-keys --server example.org --tls-cert server.crt --tls-key server.key
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net"
	"os"
	"time"

	"github.com/matrix-org/dendrite/common/config"
)

// certificateLifetime of the self-signed certificate.
const certificateLifetime = 365 * 24 * time.Hour

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "generate-keys:", err)
		}
		os.Exit(1)
	}
}

func run(arguments []string, out io.Writer) error {
	flags := flag.NewFlagSet("generate-keys", flag.ContinueOnError)
	flags.SetOutput(out)
	private := flags.String("private-key", "", "file to write a new signing key to")
	cert := flags.String("tls-cert", "", "file to write a self-signed certificate to")
	key := flags.String("tls-key", "", "file to write the key of the certificate to")
	keep := flags.Bool("keep", false, "leave files that are there already, without an error")
	server := flags.String("server", "localhost", "host name or address of the certificate")
	if err := flags.Parse(arguments); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is not a flag", flags.Arg(0))
	}
	if *private == "" && *cert == "" && *key == "" {
		return errors.New("nothing to do: give --private-key, or --tls-cert and --tls-key")
	}
	if (*cert == "") != (*key == "") {
		return errors.New("--tls-cert and --tls-key need each other")
	}
	if *private != "" {
		if err := create(*private, *keep, config.CreateSigningKey); err != nil {
			return err
		}
	}
	if *cert == "" {
		return nil
	}
	// The key first, and by itself: a run that was broken off is completed.
	if err := create(*key, *keep, certificateKey); err != nil {
		return err
	}
	return create(*cert, *keep, func(file string) error { return certificate(*server, file, *key) })
}

// create makes a file that must not be there, or may be if it is to be kept.
func create(file string, keep bool, make func(file string) error) error {
	err := make(file)
	if keep && errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// certificateKey writes the key of a certificate.
func certificateKey(file string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return config.WriteNew(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// readKey reads what certificateKey has written, or another such key.
func readKey(file string) (crypto.Signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%s holds no key", file)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s holds no key that signs", file)
	}
	return signer, nil
}

// certificate writes a self-signed certificate of a key for a host.
func certificate(host, certFile, keyFile string) error {
	if _, err := os.Stat(certFile); err == nil { // then its key may be of another form
		return fmt.Errorf("%s: %w", certFile, fs.ErrExist)
	}
	key, err := readKey(keyFile)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certificateLifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	return config.WriteNew(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
