// Package blobstest gives tests a bucket of a real S3-compatible store, which
// scripts/versitygw starts for the test binary and which cannot outlive it, since it
// ends with a pipe that the binary holds. It is for tests only and safe for
// concurrent use.
package blobstest

import (
	"crypto/rand"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/matrix-org/dendrite/common/config"
	"github.com/matrix-org/dendrite/common/testserver"
)

// What scripts/versitygw takes.
const (
	accessKey = "dendrite"
	secretKey = "dendrite-secret"
)

// shared is the test binary's one store, started when it is needed first.
var shared = sync.OnceValues(func() (*testserver.Server, error) { return testserver.Serve("versitygw") })

// Bucket makes a bucket for a test.
func Bucket(t testing.TB) config.MediaS3 {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	c := config.MediaS3{Endpoint: s.Said, PlainHTTP: true, Region: "us-east-1", Bucket: "test-" + strings.ToLower(rand.Text()),
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
