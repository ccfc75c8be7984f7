-- What the HTTP router was asked about a call and what it answered.
CREATE TABLE route_exchanges (
    session_id TEXT PRIMARY KEY,
    asked_at   INTEGER NOT NULL,
    latency_ms INTEGER NOT NULL,
    -- The action, or why there is none.
    outcome    TEXT NOT NULL,
    -- Of the HTTP answer.
    status     INTEGER,
    request    TEXT NOT NULL,
    answer     TEXT,
    -- One per line.
    notes      TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX route_exchanges_asked ON route_exchanges (asked_at);
