-- Times are milliseconds since 1970 UTC. JSON is text. Columns carry the original's names where they fit.

CREATE TABLE facts (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE extensions (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    extension         TEXT NOT NULL UNIQUE,
    display_name      TEXT,
    email             TEXT,
    status            TEXT NOT NULL DEFAULT 'active',
    login_disabled    INTEGER NOT NULL DEFAULT 0,
    allow_guest_calls INTEGER NOT NULL DEFAULT 0,
    -- Plain, or H(username:realm:password) of ha1_realm; at least one of them.
    sip_password      TEXT,
    ha1_realm         TEXT,
    ha1_md5           TEXT,
    ha1_sha256        TEXT,
    ha1_sha512_256    TEXT,
    notes             TEXT,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    CHECK (
        sip_password IS NOT NULL
        OR (ha1_realm IS NOT NULL AND coalesce(ha1_md5, ha1_sha256, ha1_sha512_256) IS NOT NULL)
    )
);

CREATE TABLE call_records (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id     TEXT NOT NULL UNIQUE,
    call_id        TEXT NOT NULL,
    direction      TEXT NOT NULL,
    status         TEXT NOT NULL,
    status_code    INTEGER NOT NULL,
    started_at     INTEGER NOT NULL,
    ring_time      INTEGER,
    answer_time    INTEGER,
    ended_at       INTEGER NOT NULL,
    duration_ms    INTEGER NOT NULL,
    from_number    TEXT NOT NULL,
    to_number      TEXT NOT NULL,
    caller_uri     TEXT NOT NULL,
    callee_uri     TEXT NOT NULL,
    sip_trunk      TEXT,
    outbound_trunk TEXT,
    -- The whole record in the JSON shape of the API.
    cdr            TEXT NOT NULL,
    created_at     INTEGER NOT NULL
);
CREATE INDEX call_records_started ON call_records (started_at, id);
CREATE INDEX call_records_call_id ON call_records (call_id);

-- Every SIP Call-ID of a call, so that a trace of either leg finds its record.
CREATE TABLE call_legs (
    call_id    TEXT NOT NULL,
    session_id TEXT NOT NULL,
    role       TEXT NOT NULL,
    PRIMARY KEY (call_id, session_id)
) WITHOUT ROWID;

CREATE TABLE recordings (
    session_id   TEXT PRIMARY KEY,
    -- pending, ready, empty, unsupported, failed
    state        TEXT NOT NULL,
    capture_path TEXT NOT NULL,
    path         TEXT,
    duration_ms  INTEGER,
    size         INTEGER,
    packets_lost INTEGER NOT NULL DEFAULT 0,
    error        TEXT,
    updated_at   INTEGER NOT NULL
) WITHOUT ROWID;
