-- +goose Up
-- The words by which users are found: of their names, folded and as hexadecimal
-- UTF-8, so that a range of words is the same in every collation. Every account
-- that is not deactivated has some.
CREATE TABLE user_words (
    word TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (word, user_id)
);
CREATE INDEX user_words_user ON user_words (user_id);
