-- +goose Up
-- Users some of whose tokens were ended, in the order of the commits, for the
-- instances that know tokens in memory; and the last Seq of that.
CREATE TABLE session_ends (
    seq BIGINT PRIMARY KEY,
    user_id TEXT NOT NULL,
    created_ts BIGINT NOT NULL
);
CREATE TABLE session_ends_head (
    id BIGINT PRIMARY KEY,
    seq BIGINT NOT NULL
);
INSERT INTO session_ends_head (id, seq) VALUES (1, 0);
-- Wrong passwords, as the time at which a key bears as many again as at first.
CREATE TABLE attempts (
    key TEXT PRIMARY KEY,
    full_ts BIGINT NOT NULL
);
CREATE INDEX attempts_full ON attempts (full_ts);
-- The last request that set a presence, for the instance that waits for it.
ALTER TABLE presence ADD COLUMN set_id TEXT NOT NULL DEFAULT '';
