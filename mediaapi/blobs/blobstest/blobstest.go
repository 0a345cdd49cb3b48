// Package blobstest gives tests a bucket of a real S3-compatible store, which
// scripts/versitygw starts for the test binary and which cannot outlive it, since it
// ends with a pipe that the binary holds. It is for tests only and safe for
// concurrent use.
package blobstest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/matrix-org/dendrite/common/config"
)

// What scripts/versitygw takes.
const (
	accessKey = "dendrite"
	secretKey = "dendrite-secret"
)

// server is the test binary's one store: its address, and the pipe that it ends with.
type server struct {
	address string
	pipe    io.Closer
}

var shared = sync.OnceValues(start)

func start() (*server, error) {
	path, err := script()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "dendrite-versitygw-")
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path, "serve", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is for us
	var failure bytes.Buffer
	cmd.Stderr = &failure
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("blobstest: the store does not start: %s: %w", failure.String(), err), cmd.Wait())
	}
	return &server{strings.TrimSpace(line), in}, nil
}

// script finds scripts/versitygw from a package's folder.
func script() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(dir, "scripts", "versitygw")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("blobstest: there is no scripts/versitygw above the test's folder")
		}
		dir = filepath.Dir(dir)
	}
}

// Bucket makes a bucket for a test.
func Bucket(t testing.TB) config.MediaS3 {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	c := config.MediaS3{Endpoint: s.address, PlainHTTP: true, Region: "us-east-1", Bucket: "test-" + strings.ToLower(rand.Text()),
		Prefix: "media/", PathStyle: true, AccessKey: accessKey, SecretKey: secretKey}
	client, err := minio.New(c.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, ""), Region: c.Region, BucketLookup: minio.BucketLookupPath})
	if err == nil {
		err = client.MakeBucket(t.Context(), c.Bucket, minio.MakeBucketOptions{Region: c.Region})
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}
