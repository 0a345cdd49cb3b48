-- +goose Up
-- What is to be purged from rooms, and what became of it. kind is retention (what
-- has expired in the rooms of a partition, again and again), history or room. Times
-- are in milliseconds by the database's clock. place is how far the work is, JSON
-- of who does it.
CREATE TABLE purges (
    purge_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    part BIGINT NOT NULL,      -- of retention
    room_id TEXT NOT NULL,     -- of the others
    before_ts BIGINT NOT NULL, -- of history: a time, or
    event_id TEXT NOT NULL,    -- an event; what is older goes
    force BOOLEAN NOT NULL,    -- of room: members are made to leave first
    place TEXT NOT NULL,
    purged BIGINT NOT NULL,    -- events, so far
    created_ts BIGINT NOT NULL,
    due_ts BIGINT NOT NULL,
    owner TEXT NOT NULL,
    until_ts BIGINT NOT NULL,  -- up to when it is the owner's to do
    finished_ts BIGINT NOT NULL, -- 0: not yet
    error TEXT NOT NULL        -- why it was given up; '' if it was not
);
CREATE INDEX purges_due ON purges (finished_ts, due_ts);

-- +goose Down
DROP TABLE purges;
