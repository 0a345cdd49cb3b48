// Package storage is the media-api's database: one SQL text for SQLite and
// PostgreSQL, each exported method one transaction.
//
// It decides which bytes are needed: a blob, the bytes with a hash, is named by
// media and by thumbnails, and claimed by who is about to name it. It is doomed,
// once and for all, by the transaction that finds it neither named nor claimed; then
// its file is removed, then its row. Who wants the same bytes meanwhile waits for
// that, and writes them under a key of another generation. Whoever claims, names,
// blocks or dooms a blob locks its row first, so none of them misses another.
//
// Tables: media, blobs, claims, thumbnails, usage, previews, blocked_hashes,
// blocked_servers, jobs. Leases and claims go by the database's clock. Every
// method is safe for concurrent use.
package storage
