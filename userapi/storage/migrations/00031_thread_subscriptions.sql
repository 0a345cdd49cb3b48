-- +goose Up
-- What users have said of threads: whether they are subscribed, and how it came to
-- that. seq is that of the last change, told on user.output. left_at is the last
-- position of the room when the user last ended the subscription: what came up to
-- then does not begin it again by itself; 0: never. past is a JSON array of the last
-- changes, with their times in milliseconds.
CREATE TABLE thread_subscriptions (
    user_id TEXT NOT NULL,
    room_id TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    subscribed BOOLEAN NOT NULL,
    automatic BOOLEAN NOT NULL,
    seq BIGINT NOT NULL,
    left_at BIGINT NOT NULL,
    past TEXT NOT NULL,
    PRIMARY KEY (user_id, room_id, thread_id)
);
CREATE INDEX thread_subscriptions_seq ON thread_subscriptions (user_id, seq);
