-- Events on their way to somebody outside. A row is written in the transaction of what it reports.
CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    -- webhook-id: the same however often it is sent.
    event_id    TEXT NOT NULL,
    endpoint    TEXT NOT NULL,
    -- Rows of one key are delivered in the order of their ids: a call's session id, an AOR.
    order_key   TEXT NOT NULL,
    kind        TEXT NOT NULL,
    payload     TEXT NOT NULL,
    -- pending, delivered, dead
    state       TEXT NOT NULL DEFAULT 'pending',
    attempts    INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL,
    -- Like created_at, until somebody asks for it again.
    queued_at   INTEGER NOT NULL,
    due_at      INTEGER NOT NULL,
    finished_at INTEGER,
    last_error  TEXT,
    UNIQUE (endpoint, event_id)
);
CREATE INDEX outbox_due ON outbox (endpoint, due_at, id) WHERE state = 'pending';
CREATE INDEX outbox_order ON outbox (endpoint, order_key, id) WHERE state = 'pending';
CREATE INDEX outbox_age ON outbox (endpoint, queued_at) WHERE state = 'pending';
CREATE INDEX outbox_finished ON outbox (endpoint, state, finished_at) WHERE state <> 'pending';
CREATE INDEX outbox_listed ON outbox (endpoint, state, id);
CREATE INDEX outbox_key ON outbox (order_key, id);

CREATE TABLE outbox_attempts (
    id         INTEGER PRIMARY KEY,
    outbox_id  INTEGER NOT NULL REFERENCES outbox (id) ON DELETE CASCADE,
    started_at INTEGER NOT NULL,
    took_ms    INTEGER NOT NULL,
    status     INTEGER,
    error      TEXT,
    -- The beginning of an answer that was no success.
    answer     TEXT
);
CREATE INDEX outbox_attempts_of ON outbox_attempts (outbox_id, id);

-- Endpoints are in the configuration; here is what was decided about them since.
CREATE TABLE outbox_endpoints (
    name       TEXT PRIMARY KEY,
    enabled    INTEGER NOT NULL,
    reason     TEXT,
    changed_at INTEGER NOT NULL,
    -- Fingerprint of the URL: the decision does not hold for another one.
    target     TEXT NOT NULL
);
