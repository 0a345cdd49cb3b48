// Package blobs keeps the bytes of media: files that are written once, read in
// any part, and removed, by a key that the media-api's database gives. They are in
// a folder (Folder), which several instances may share, or in a bucket of an
// S3-compatible store (Bucket).
//
// It decides nothing about what is kept. Bytes arrive in a spool file first
// (Spool): they are hashed as they come, and nothing of them is in the store until
// all are there. Put is atomic: whoever finds a key finds all of its bytes, also
// after a crash. Removing what is not there is no error.
//
// S3 is spoken by minio-go: it is maintained, speaks nothing but S3, and has few
// dependencies; AWS's own SDK sends checksums and trailers by default that other
// makers' stores have refused. Everything here is safe for concurrent use, but for
// a reader.
package blobs
