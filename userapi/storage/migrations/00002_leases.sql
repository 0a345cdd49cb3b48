-- +goose Up
-- Who does a job, until when by the database's clock unless that is prolonged.
ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN until_ts BIGINT NOT NULL DEFAULT 0;
-- Partitions of user.output into which the current rows of all users are being
-- published anew, and the last user who is done.
CREATE TABLE resyncs (
    partition_id BIGINT PRIMARY KEY,
    after_user TEXT NOT NULL
);
