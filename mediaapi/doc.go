// Package mediaapi is the media-api role: files that users send, their thumbnails,
// and previews of pages.
//
// It decides who may have which file, under which headers, and what is stored: a
// body is taken to a spool file while it is hashed (keep.go), scanned, put into the
// blob store under its hash, and only then named by a row of media, which is committed
// with fsync; an upload is answered after that. Bytes are removed in the other order:
// the row, then the file (storage/doc.go). So each row has its bytes after any crash,
// and bytes without a row are found and removed.
//
// Everything that comes in is hostile: bodies are streamed and bounded, images are
// looked at before they are decoded (thumbnails/), pages are requested as previews/
// allows. What a browser would run is only ever sent as an attachment.
//
// It reads and writes no topic. Tables: those of storage/, which no log can restore.
// Files: those of the blob store (blobs/), and spool files.
//
// Asks the user-api and the directory-api which media are pictures of users and
// rooms, before it removes what has not been used for long. Media of other servers it
// has when somebody brings them (Fetcher).
//
// Concurrency: a Server is safe for concurrent use. Any number of instances share the
// database and the blob store; what one of them has to do for all (janitor.go) it
// does under a lease in the table jobs, and claims in the database tell who is about
// to use which bytes.
package mediaapi
