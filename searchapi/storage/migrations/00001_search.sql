-- +goose Up
-- The last Seq of each partition of room.output that is indexed.
CREATE TABLE positions (
    partition_id BIGINT PRIMARY KEY,
    seq BIGINT NOT NULL
);
-- The numbers that rooms have here. A room that was purged gets another one if it
-- comes back.
CREATE TABLE rooms (
    room_id TEXT PRIMARY KEY,
    room_nid BIGINT NOT NULL,
    partition_id BIGINT NOT NULL
);
CREATE UNIQUE INDEX rooms_nid ON rooms (room_nid);
-- Events that can be found. nid is the order of results: origin_server_ts in
-- milliseconds, times 2^21, and a number that tells apart what is of one
-- millisecond. key_nid says which text it is: 1 content.body, 2 content.name,
-- 3 content.topic. level is the history visibility before it: 0 world_readable,
-- 1 shared, 2 invited, 3 joined. has_url is 1 where the content has a url. words is
-- the number of its terms, edit_id the event that has its newest text, '' for itself.
CREATE TABLE events (
    nid BIGINT PRIMARY KEY,
    event_id TEXT NOT NULL,
    room_nid BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    sender TEXT NOT NULL,
    key_nid BIGINT NOT NULL,
    level BIGINT NOT NULL,
    has_url BIGINT NOT NULL,
    words BIGINT NOT NULL,
    edit_id TEXT NOT NULL
);
CREATE UNIQUE INDEX events_id ON events (event_id);
-- The terms of events by nid: of their texts, and one for the room.
CREATE TABLE terms (rowid BIGINT PRIMARY KEY, words TSVECTOR NOT NULL);
CREATE INDEX terms_words ON terms USING gin (words);
-- Events that replace the text of others, be these known or not.
CREATE TABLE edits (
    edit_id TEXT PRIMARY KEY,
    parent_id TEXT NOT NULL,
    room_nid BIGINT NOT NULL,
    sender TEXT NOT NULL,
    ts BIGINT NOT NULL
);
CREATE INDEX edits_parent ON edits (parent_id);
CREATE INDEX edits_room ON edits (room_nid);
-- Events whose newest text has to be read from the room server.
CREATE TABLE stale (
    event_id TEXT PRIMARY KEY,
    room_id TEXT NOT NULL,
    partition_id BIGINT NOT NULL
);
-- Rooms that are gone, or whose history is read anew: nobody finds the events that
-- were indexed, until these are removed.
CREATE TABLE purged (
    room_nid BIGINT PRIMARY KEY,
    partition_id BIGINT NOT NULL
);
-- History that is being read from the room server, of each partition up to a Seq:
-- rooms up to after_room are done, and of room_id what stands up to at_seq, at_sub.
CREATE TABLE histories (
    partition_id BIGINT PRIMARY KEY,
    to_seq BIGINT NOT NULL,
    after_room TEXT NOT NULL,
    room_id TEXT NOT NULL,
    at_seq BIGINT NOT NULL,
    at_sub BIGINT NOT NULL
);
-- Events that were redacted, and rooms that were purged, while history is being
-- read: what was read of them before that is not indexed.
CREATE TABLE gone (
    id TEXT PRIMARY KEY,
    partition_id BIGINT NOT NULL
);
