-- +goose Up
-- Events that are to be sent later. Times are in milliseconds by the database's
-- clock. state is scheduled, sending (somebody has taken it, until until_ts: what
-- became of it may not be known), sent, cancelled or failed.
CREATE TABLE delayed_events (
    delay_id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    request TEXT NOT NULL, -- the client's transaction
    room_id TEXT NOT NULL,
    type TEXT NOT NULL,
    is_state BOOLEAN NOT NULL,
    state_key TEXT NOT NULL,
    content TEXT NOT NULL,
    origin_ts BIGINT NOT NULL,
    delay_ms BIGINT NOT NULL,
    scheduled_ts BIGINT NOT NULL,
    due_ts BIGINT NOT NULL,
    state TEXT NOT NULL,
    owner TEXT NOT NULL,
    until_ts BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    finalised_ts BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    error TEXT NOT NULL
);
CREATE UNIQUE INDEX delayed_events_request ON delayed_events (user_id, request);
CREATE INDEX delayed_events_due ON delayed_events (state, due_ts);
CREATE INDEX delayed_events_user ON delayed_events (user_id, state, due_ts);
