-- +goose Up
CREATE TABLE rooms (
    room_nid     BIGINT PRIMARY KEY,
    room_id      TEXT NOT NULL UNIQUE,
    version      TEXT NOT NULL,
    partition_id BIGINT NOT NULL,
    depth        BIGINT NOT NULL, -- the greatest of any event
    latest_seq   BIGINT NOT NULL, -- of the room's last output
    state_seq    BIGINT NOT NULL, -- of the last change of its state
    joined       BIGINT NOT NULL,
    invited      BIGINT NOT NULL,
    local_joined BIGINT NOT NULL, -- users of ours
    gaps         BIGINT NOT NULL, -- their number
    extremities  TEXT NOT NULL,   -- JSON array of event IDs
    parked       TEXT NOT NULL    -- why nothing is taken for it any more; '' otherwise
);

-- Every event once. event_nid of what has a Seq of its own is
-- partition_id << 40 | seq, so a partition's events are appended in order and
-- found by position; others (outliers, rejected events) are numbered from
-- 1 << 60 | partition_id << 40. output is the header of the record on
-- room.output; NULL if there is none. The state after an event is that of its
-- room at seq, unless state_seq or fork_nid says otherwise.
CREATE TABLE events (
    event_nid   BIGINT PRIMARY KEY,
    room_nid    BIGINT NOT NULL,
    event_id    TEXT NOT NULL,
    seq         BIGINT NOT NULL, -- 0 for outliers and rejected events
    sub         BIGINT NOT NULL, -- below 0 for backfilled events
    ts          BIGINT NOT NULL,
    flags       BIGINT NOT NULL, -- 1 rejected, 2 soft-failed, 4 outlier
    state_seq   BIGINT NOT NULL, -- the Seq whose state is the one after it, or 0
    fork_nid    BIGINT NOT NULL, -- in forks, or 0
    redacted_by TEXT NOT NULL,   -- event ID; '' if not redacted
    output      BYTEA,
    json        BYTEA NOT NULL
);
CREATE UNIQUE INDEX events_id ON events (event_id);
CREATE INDEX events_room ON events (room_nid, seq, sub, flags); -- flags, so that a page is found without the rows

-- The history of each room's current state: from the Seq on, the entry is the
-- event; event_nid 0 says that it is none.
CREATE TABLE state_changes (
    room_nid  BIGINT NOT NULL,
    type      TEXT NOT NULL,
    state_key TEXT NOT NULL,
    from_seq  BIGINT NOT NULL,
    event_nid BIGINT NOT NULL,
    PRIMARY KEY (room_nid, type, state_key, from_seq)
); -- clustered
CREATE INDEX state_changes_seq ON state_changes (room_nid, from_seq);

-- States that no room has been in at any Seq, as events of a fork have them:
-- the room's state at base_seq, or that of the fork parent_nid, and the entries
-- that differ from it. fork_nid is the event_nid of the first event with it.
CREATE TABLE forks (
    fork_nid   BIGINT PRIMARY KEY,
    room_nid   BIGINT NOT NULL,
    base_seq   BIGINT NOT NULL,
    parent_nid BIGINT NOT NULL, -- 0: none
    depth      BIGINT NOT NULL  -- of the chain of parents
);
CREATE INDEX forks_room ON forks (room_nid);
CREATE TABLE fork_entries (
    fork_nid  BIGINT NOT NULL,
    type      TEXT NOT NULL,
    state_key TEXT NOT NULL,
    event_nid BIGINT NOT NULL, -- 0: no event
    PRIMARY KEY (fork_nid, type, state_key)
); -- clustered

-- Where history is missing: right before the event at (seq, sub), the events of
-- whose IDs missing is a JSON array.
CREATE TABLE gaps (
    room_nid BIGINT NOT NULL,
    seq      BIGINT NOT NULL,
    sub      BIGINT NOT NULL,
    missing  TEXT NOT NULL,
    PRIMARY KEY (room_nid, seq, sub)
); -- clustered

-- States sent ahead of the event that they are for, by the hash of their
-- events' IDs; ts is that of the record that began it.
CREATE TABLE state_sets (
    room_nid BIGINT NOT NULL,
    set_id   TEXT NOT NULL,
    event_id TEXT NOT NULL,
    ts       BIGINT NOT NULL,
    PRIMARY KEY (room_nid, set_id, event_id)
); -- clustered
CREATE INDEX state_sets_ts ON state_sets (ts);

-- Outputs that are no event of that Seq: changes of state, events that were
-- stored before, what is gone. output_nid is as an event_nid.
CREATE TABLE outputs (
    output_nid BIGINT PRIMARY KEY,
    room_nid   BIGINT NOT NULL, -- 0: of none
    event_nid  BIGINT NOT NULL, -- the event of the output, or 0
    output     BYTEA  NOT NULL  -- its header
);
CREATE INDEX outputs_room ON outputs (room_nid);

-- Invites and knocks of our users, of rooms that we are not in.
CREATE TABLE out_of_room (
    room_id    TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    version    TEXT NOT NULL,
    event_id   TEXT NOT NULL,
    json       BYTEA NOT NULL,
    stripped   BYTEA NOT NULL, -- stripped state, a JSON array
    PRIMARY KEY (room_id, user_id)
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

-- The last Seq given in each partition, and the last number of an event
-- without one.
CREATE TABLE positions (
    partition_id BIGINT PRIMARY KEY,
    seq          BIGINT NOT NULL,
    others       BIGINT NOT NULL
);

-- +goose Down
DROP TABLE positions;
DROP TABLE early_redactions;
DROP TABLE requests;
DROP TABLE out_of_room;
DROP TABLE outputs;
DROP TABLE state_sets;
DROP TABLE gaps;
DROP TABLE fork_entries;
DROP TABLE forks;
DROP TABLE state_changes;
DROP TABLE events;
DROP TABLE rooms;
