-- +goose Up
-- What users are notified through, by the session that made it. data is a JSON
-- object.
CREATE TABLE pushers (
    user_id TEXT NOT NULL,
    app_id TEXT NOT NULL,
    pushkey TEXT NOT NULL,
    pusher_id TEXT NOT NULL, -- another one when it is made again
    device_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    app_name TEXT NOT NULL,
    device_name TEXT NOT NULL,
    profile_tag TEXT NOT NULL,
    lang TEXT NOT NULL,
    data TEXT NOT NULL,
    set_ts BIGINT NOT NULL,
    PRIMARY KEY (user_id, app_id, pushkey)
);
CREATE INDEX pushers_key ON pushers (app_id, pushkey);
-- Rows are there only within the transactions that set a pusher, which take
-- turns by them.
CREATE TABLE pusher_turns (
    app_id TEXT NOT NULL,
    pushkey TEXT NOT NULL,
    PRIMARY KEY (app_id, pushkey)
);
