-- +goose Up

-- When the keys of a user's devices, or for cross-signing, changed last, by the
-- Seq of user.output; for everybody (viewer is ''), or for the viewer alone, who
-- has signed them.
CREATE TABLE device_lists (
    user_id TEXT   NOT NULL,
    viewer  TEXT   NOT NULL,
    seq     BIGINT NOT NULL,
    PRIMARY KEY (user_id, viewer)
);
CREATE INDEX device_lists_seq ON device_lists (seq);

-- +goose Down
DROP TABLE device_lists;
