-- +goose Up
-- Push rules that users had before: each until a time, in milliseconds, at which
-- the change with the Seq replaced them. content is that of m.push_rules.
CREATE TABLE past_push_rules (
    user_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    until_ts BIGINT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (user_id, seq)
);
