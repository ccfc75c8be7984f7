-- Answers to requests that came with an Idempotency-Key, for a day.

CREATE TABLE idempotency_keys (
    -- Who sent it, and to which method and path: the same key elsewhere is another one.
    caller      TEXT NOT NULL,
    route       TEXT NOT NULL,
    key         TEXT NOT NULL,
    -- SHA-256 of the query and the body.
    fingerprint TEXT NOT NULL,
    -- The run of the program that began it.
    run         TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    -- NULL while it is being done.
    status      INTEGER,
    -- Names and values as a JSON object.
    headers     TEXT,
    -- NULL when there is nothing to repeat: a secret that is shown once, or too much.
    body        TEXT,
    PRIMARY KEY (caller, route, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);
