package blobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/matrix-org/dendrite/common/config"
)

// Bucket keeps keys as objects of an S3-compatible store.
type Bucket struct {
	client *minio.Core
	bucket string
	prefix string
}

// NewBucket makes a Bucket; it connects to nothing. Without an access key the
// environment's or the machine's role is used, as AWS's tools do.
func NewBucket(c *config.MediaS3) (*Bucket, error) {
	options := &minio.Options{Secure: !c.PlainHTTP, Region: c.Region, BucketLookup: minio.BucketLookupAuto}
	if c.PathStyle {
		options.BucketLookup = minio.BucketLookupPath
	}
	if c.AccessKey != "" {
		options.Creds = credentials.NewStaticV4(c.AccessKey, c.SecretKey, "")
	} else {
		options.Creds = credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.IAM{}})
	}
	client, err := minio.NewCore(c.Endpoint, options)
	if err != nil {
		return nil, fmt.Errorf("blobs: S3: %w", err)
	}
	return &Bucket{client: client, bucket: c.Bucket, prefix: c.Prefix}, nil
}

// Put implements Store. The store shows an object only when all of it has come.
func (b *Bucket) Put(ctx context.Context, key string, s *Spool) error {
	// No multipart upload, which could be left half done: 5 GiB go as one object.
	_, err := b.client.Client.PutObject(ctx, b.bucket, b.prefix+key, s.Reader(), s.Size,
		minio.PutObjectOptions{ContentType: "application/octet-stream", DisableMultipart: true})
	if err != nil {
		return fmt.Errorf("blobs: S3: put: %w", err)
	}
	return nil
}

// missing tells whether an error says that there is no such object.
func missing(err error) bool {
	var e minio.ErrorResponse
	return errors.As(err, &e) && e.StatusCode == http.StatusNotFound && e.Code != minio.NoSuchBucket
}

// Has implements Store.
func (b *Bucket) Has(ctx context.Context, key string, size int64) (bool, error) {
	info, err := b.client.StatObject(ctx, b.bucket, b.prefix+key, minio.StatObjectOptions{})
	switch {
	case err != nil && missing(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("blobs: S3: stat: %w", err)
	}
	return info.Size == size, nil
}

// Open implements Store: what is read is asked for when it is, from where it is.
func (b *Bucket) Open(ctx context.Context, key string, size int64) (io.ReadSeekCloser, error) {
	r := &objectReader{ctx: ctx, bucket: b, key: key, size: size}
	// Whether it is there shows now, while an error can still be answered.
	if err := r.open(); err != nil {
		return nil, err
	}
	return r, nil
}

// Remove implements Store.
func (b *Bucket) Remove(ctx context.Context, key string) error {
	if err := b.client.RemoveObject(ctx, b.bucket, b.prefix+key, minio.RemoveObjectOptions{}); err != nil && !missing(err) {
		return fmt.Errorf("blobs: S3: remove: %w", err)
	}
	return nil
}

// objectReader reads an object; a seek to another place costs a new request.
type objectReader struct {
	ctx    context.Context
	bucket *Bucket
	key    string
	size   int64
	at     int64 // where the reader is
	body   io.ReadCloser
	bodyAt int64 // where body is
}

// open begins to read where the reader is.
func (r *objectReader) open() error {
	r.shut()
	if r.at >= r.size {
		return nil
	}
	var options minio.GetObjectOptions
	if r.at > 0 {
		if err := options.SetRange(r.at, 0); err != nil {
			return fmt.Errorf("blobs: S3: %w", err)
		}
	}
	body, _, _, err := r.bucket.client.GetObject(r.ctx, r.bucket.bucket, r.bucket.prefix+r.key, options)
	if err != nil {
		if missing(err) {
			return fmt.Errorf("%w: %s", ErrNotFound, r.key)
		}
		return fmt.Errorf("blobs: S3: get: %w", err)
	}
	r.body, r.bodyAt = body, r.at
	return nil
}

// Read implements io.Reader.
func (r *objectReader) Read(p []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if r.body == nil || r.bodyAt != r.at {
		if err := r.open(); err != nil {
			return 0, err
		}
	}
	n, err := r.body.Read(p)
	r.at += int64(n)
	r.bodyAt = r.at
	if errors.Is(err, io.EOF) && r.at < r.size {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Seek implements io.Seeker.
func (r *objectReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("blobs: a place before the beginning")
	}
	r.at = offset
	return offset, nil
}

func (r *objectReader) shut() {
	if r.body != nil {
		_ = r.body.Close() // it was only read
		r.body = nil
	}
}

// Close implements io.Closer.
func (r *objectReader) Close() error {
	r.shut()
	return nil
}
