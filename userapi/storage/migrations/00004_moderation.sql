-- +goose Up
-- What users have reported: kind is event, room or user, and what it does not
-- have is ''. Who reports the same again has one row.
CREATE TABLE reports (
    report_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    reporter TEXT NOT NULL,
    room_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    created_ts BIGINT NOT NULL,
    resolved_ts BIGINT NOT NULL,
    note TEXT NOT NULL
);
CREATE UNIQUE INDEX reports_same ON reports (reporter, kind, room_id, event_id, user_id);
CREATE INDEX reports_open ON reports (resolved_ts, created_ts);
