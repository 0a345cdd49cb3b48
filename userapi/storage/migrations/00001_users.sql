-- +goose Up
CREATE TABLE accounts (
    user_id TEXT PRIMARY KEY,
    password_hash TEXT NOT NULL,
    admin BOOLEAN NOT NULL,
    guest BOOLEAN NOT NULL,
    locked BOOLEAN NOT NULL,
    suspended BOOLEAN NOT NULL,
    deactivated BOOLEAN NOT NULL,
    created_ts BIGINT NOT NULL
);
CREATE TABLE devices (
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    display_name TEXT NOT NULL,
    last_seen_ip TEXT NOT NULL,
    last_seen_ts BIGINT NOT NULL,
    PRIMARY KEY (user_id, device_id)
);
-- Tokens are stored as their SHA-256. An access token that can be refreshed
-- has an expiry and the hash of its refresh token.
CREATE TABLE access_tokens (
    hash TEXT PRIMARY KEY,
    token_id BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    expires_ts BIGINT NOT NULL,
    refresh_hash TEXT NOT NULL
);
CREATE INDEX access_tokens_device ON access_tokens (user_id, device_id);
CREATE INDEX access_tokens_refresh ON access_tokens (refresh_hash);
-- parent is the refresh token that this one replaces once it is used.
CREATE TABLE refresh_tokens (
    hash TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    device_id TEXT NOT NULL,
    parent TEXT NOT NULL
);
CREATE INDEX refresh_tokens_device ON refresh_tokens (user_id, device_id);
CREATE INDEX refresh_tokens_parent ON refresh_tokens (parent);
CREATE TABLE short_tokens (
    hash TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    user_id TEXT NOT NULL,
    expires_ts BIGINT NOT NULL
);
CREATE INDEX short_tokens_expires ON short_tokens (expires_ts);
CREATE TABLE auth_sessions (
    session_id TEXT PRIMARY KEY,
    operation TEXT NOT NULL,
    user_id TEXT NOT NULL,
    completed TEXT NOT NULL,
    registration_token TEXT NOT NULL,
    expires_ts BIGINT NOT NULL
);
CREATE INDEX auth_sessions_expires ON auth_sessions (expires_ts);
CREATE TABLE registration_tokens (
    token TEXT PRIMARY KEY,
    uses_allowed BIGINT NOT NULL,
    used BIGINT NOT NULL,
    expires_ts BIGINT NOT NULL
);
CREATE TABLE profiles (
    user_id TEXT NOT NULL,
    field TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (user_id, field)
);
CREATE TABLE account_data (
    user_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    type TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (user_id, room_id, type)
);
CREATE TABLE filters (
    user_id TEXT NOT NULL,
    filter_id TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (user_id, filter_id)
);
CREATE TABLE receipts (
    user_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    type TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    ts BIGINT NOT NULL,
    PRIMARY KEY (user_id, room_id, type, thread_id)
);
CREATE TABLE forgotten (
    user_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    PRIMARY KEY (user_id, room_id)
);
CREATE TABLE presence (
    user_id TEXT PRIMARY KEY,
    presence TEXT NOT NULL,
    status_msg TEXT NOT NULL,
    last_active_ts BIGINT NOT NULL
);
-- Work in rooms that a change of an account brings: one row per user and kind,
-- replaced by a later change.
CREATE TABLE jobs (
    user_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    job_id TEXT NOT NULL,
    created_ts BIGINT NOT NULL,
    PRIMARY KEY (user_id, kind)
);
-- The last Seq of each partition of user.output, and what is published of it.
CREATE TABLE output_heads (
    partition_id BIGINT PRIMARY KEY,
    seq BIGINT NOT NULL
);
CREATE TABLE outbox (
    partition_id BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    user_id TEXT NOT NULL,
    value TEXT NOT NULL,
    created_ts BIGINT NOT NULL,
    PRIMARY KEY (partition_id, seq)
);
