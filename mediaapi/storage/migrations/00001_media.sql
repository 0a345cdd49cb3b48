-- +goose Up
-- What mxc:// URIs name. Times are milliseconds; uploaded_ts is 0 while nothing has
-- been uploaded, expires_ts is 0 for what is kept. kind is upload, preview (the
-- image of a page) or remote (a copy of another server's).
CREATE TABLE media (
    server_name  TEXT NOT NULL,
    media_id     TEXT NOT NULL,
    kind         TEXT NOT NULL,
    user_id      TEXT NOT NULL,
    created_ts   BIGINT NOT NULL,
    uploaded_ts  BIGINT NOT NULL,
    expires_ts   BIGINT NOT NULL,
    accessed_ts  BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    filename     TEXT NOT NULL,
    size         BIGINT NOT NULL,
    hash         TEXT NOT NULL, -- of the blob; '' while nothing has been uploaded
    quarantined  BOOLEAN NOT NULL,
    protected    BOOLEAN NOT NULL,
    PRIMARY KEY (server_name, media_id)
);
CREATE INDEX media_hash ON media (hash);
CREATE INDEX media_user ON media (user_id, created_ts, media_id);
CREATE INDEX media_accessed ON media (kind, accessed_ts);
CREATE INDEX media_expires ON media (expires_ts);

-- The bytes that are stored, by their SHA-256. generation is part of their key in
-- the blob store. At check_ts, if not 0, it is looked at whether they are needed.
CREATE TABLE blobs (
    hash       TEXT PRIMARY KEY,
    generation TEXT NOT NULL,
    size       BIGINT NOT NULL,
    doomed     BOOLEAN NOT NULL,
    check_ts   BIGINT NOT NULL
);
CREATE INDEX blobs_check ON blobs (check_ts);

-- Who is about to name a blob.
CREATE TABLE claims (
    claim_id TEXT PRIMARY KEY,
    hash     TEXT NOT NULL,
    until_ts BIGINT NOT NULL
);
CREATE INDEX claims_hash ON claims (hash);

-- Thumbnails of a blob, which are blobs too.
CREATE TABLE thumbnails (
    source       TEXT NOT NULL,
    width        BIGINT NOT NULL, -- as asked for
    height       BIGINT NOT NULL,
    method       TEXT NOT NULL,
    animated     BOOLEAN NOT NULL,
    hash         TEXT NOT NULL,
    content_type TEXT NOT NULL,
    PRIMARY KEY (source, width, height, method, animated)
);
CREATE INDEX thumbnails_hash ON thumbnails (hash);

-- What each user has uploaded.
CREATE TABLE usage (
    user_id TEXT PRIMARY KEY,
    bytes   BIGINT NOT NULL,
    files   BIGINT NOT NULL
);

-- Previews of pages, by the SHA-256 of the URL. response is JSON; '' if the page
-- could not be had.
CREATE TABLE previews (
    url_hash   TEXT PRIMARY KEY,
    response   TEXT NOT NULL,
    expires_ts BIGINT NOT NULL
);
CREATE INDEX previews_expires ON previews (expires_ts);

CREATE TABLE blocked_hashes (
    hash       TEXT PRIMARY KEY,
    created_ts BIGINT NOT NULL
);
CREATE TABLE blocked_servers (
    server_name TEXT PRIMARY KEY,
    created_ts  BIGINT NOT NULL
);

-- Work that one instance does at a time, not before next_ts.
CREATE TABLE jobs (
    name     TEXT PRIMARY KEY,
    owner    TEXT NOT NULL,
    until_ts BIGINT NOT NULL,
    next_ts  BIGINT NOT NULL
);
