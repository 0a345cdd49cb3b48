-- +goose Up
CREATE TABLE rooms (
    room_nid     BIGINT PRIMARY KEY,
    room_id      TEXT NOT NULL UNIQUE,
    version      TEXT NOT NULL,
    partition_id BIGINT NOT NULL,
    depth        BIGINT NOT NULL, -- the greatest of any event
    latest_seq   BIGINT NOT NULL, -- of the room's last output
    joined       BIGINT NOT NULL,
    invited      BIGINT NOT NULL,
    extremities  TEXT NOT NULL,   -- JSON array of event IDs
    parked       TEXT NOT NULL    -- why nothing is taken for it any more; '' otherwise
);

-- Every event once. event_nid of what has a Seq of its own is
-- partition_id << 40 | seq, so a partition's events are appended in order and
-- found by position; others (outliers, backfilled events) are numbered from
-- 1 << 60. output is the header of the record on room.output; NULL for outliers.
CREATE TABLE events (
    event_nid   BIGINT PRIMARY KEY,
    room_nid    BIGINT NOT NULL,
    event_id    TEXT NOT NULL,
    seq         BIGINT NOT NULL, -- 0 for outliers
    sub         BIGINT NOT NULL,
    ts          BIGINT NOT NULL,
    flags       BIGINT NOT NULL, -- 1 rejected, 2 soft-failed, 4 outlier
    redacted_by TEXT NOT NULL,   -- event ID; '' if not redacted
    output      BYTEA,
    json        BYTEA NOT NULL
);
CREATE UNIQUE INDEX events_id ON events (event_id);
CREATE INDEX events_room ON events (room_nid, seq, sub);

-- The history of each room's current state: from the Seq on, the entry is the
-- event; event_nid 0 says that it is none.
CREATE TABLE state_changes (
    room_nid  BIGINT NOT NULL,
    type      TEXT NOT NULL,
    state_key TEXT NOT NULL,
    from_seq  BIGINT NOT NULL,
    event_nid BIGINT NOT NULL,
    PRIMARY KEY (room_nid, type, state_key, from_seq)
);
CREATE INDEX state_changes_seq ON state_changes (room_nid, from_seq);

-- Where the state after an event is not the room's state at its Seq (a fork):
-- the entries that differ.
CREATE TABLE state_forks (
    event_nid BIGINT NOT NULL,
    type      TEXT NOT NULL,
    state_key TEXT NOT NULL,
    value_nid BIGINT NOT NULL,
    PRIMARY KEY (event_nid, type, state_key)
);

-- Accepted requests and their verdicts (design rule 12).
CREATE TABLE requests (
    request_id TEXT PRIMARY KEY,
    ts         BIGINT NOT NULL, -- of the record
    verdict    BYTEA NOT NULL
);
CREATE INDEX requests_ts ON requests (ts);

-- Redactions that came before their target.
CREATE TABLE early_redactions (
    target_id    TEXT NOT NULL,
    redaction_id TEXT NOT NULL,
    PRIMARY KEY (target_id, redaction_id)
);

-- The last Seq given in each partition.
CREATE TABLE positions (
    partition_id BIGINT PRIMARY KEY,
    seq          BIGINT NOT NULL
);

-- +goose Down
DROP TABLE positions;
DROP TABLE early_redactions;
DROP TABLE requests;
DROP TABLE state_forks;
DROP TABLE state_changes;
DROP TABLE events;
DROP TABLE rooms;
