-- What has to leave this machine (waiting), what has left it (done), what cannot any more (lost), and what
-- waits for a target that the configuration no longer names (parked).
CREATE TABLE uploads (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL,
    load_kind  TEXT NOT NULL,
    section    TEXT NOT NULL,
    state      TEXT NOT NULL,
    attempts   INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    object_key TEXT,
    size       INTEGER,
    sha256     TEXT,
    error      TEXT,
    created_at INTEGER NOT NULL,
    done_at    INTEGER,
    UNIQUE (session_id, load_kind, section)
);
CREATE INDEX uploads_due ON uploads (section, due_at, id) WHERE state = 'waiting';
CREATE INDEX uploads_open ON uploads (state) WHERE state <> 'done';
-- For retention: ready recordings whose file is still here, oldest call first.
CREATE INDEX recordings_files ON recordings (session_id) WHERE path IS NOT NULL;
