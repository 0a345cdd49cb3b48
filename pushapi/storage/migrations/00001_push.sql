-- +goose Up
-- The last Seq of each partition of room.output that has been judged.
CREATE TABLE positions (
    partition_id BIGINT PRIMARY KEY,
    seq BIGINT NOT NULL
);
-- What is new for a pusher: references to events, until its gateway has them.
-- event is what is known of an invite to a room that nobody here is in; '' for
-- others. tweaks is a JSON object.
CREATE TABLE news (
    pusher_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    partition_id BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    tweaks TEXT NOT NULL,
    event TEXT NOT NULL,
    room_version TEXT NOT NULL,
    logged_ts BIGINT NOT NULL, -- milliseconds, by the log
    PRIMARY KEY (pusher_id, event_id)
);
CREATE INDEX news_order ON news (pusher_id, logged_ts, partition_id, seq);
-- Pushers that have had something new. due_ts is when the gateway is to be asked
-- next, 0 for at once. changes counts what was new, so that who comes to rest
-- knows that nothing came meanwhile. read_seq is the Seq of user.output up to
-- which the user has read something that the gateway was not told; badge is what
-- it was told last.
CREATE TABLE states (
    pusher_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    user_partition BIGINT NOT NULL,
    due_ts BIGINT NOT NULL,
    changes BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    read_seq BIGINT NOT NULL,
    badge TEXT NOT NULL
);
CREATE INDEX states_due ON states (user_partition, due_ts);
CREATE INDEX states_user ON states (user_id);
