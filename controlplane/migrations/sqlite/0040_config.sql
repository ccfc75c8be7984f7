-- What operators configure beside the files. Columns carry the original's names where they fit.

ALTER TABLE extensions ADD COLUMN voicemail_disabled INTEGER;
ALTER TABLE extensions ADD COLUMN call_forwarding_mode TEXT;
ALTER TABLE extensions ADD COLUMN call_forwarding_destination TEXT;
ALTER TABLE extensions ADD COLUMN call_forwarding_timeout INTEGER;
ALTER TABLE extensions ADD COLUMN department_ids TEXT;

CREATE TABLE sip_trunks (
    id                        INTEGER PRIMARY KEY AUTOINCREMENT,
    name                      TEXT NOT NULL UNIQUE,
    display_name              TEXT,
    carrier                   TEXT,
    description               TEXT,
    status                    TEXT,
    direction                 TEXT,
    sip_server                TEXT NOT NULL,
    sip_transport             TEXT,
    outbound_proxy            TEXT,
    auth_username             TEXT,
    auth_password             TEXT,
    default_route_label       TEXT,
    max_cps                   INTEGER,
    max_concurrent            INTEGER,
    max_call_duration         INTEGER,
    utilisation_percent       INTEGER,
    warning_threshold_percent INTEGER,
    allowed_ips               TEXT,
    did_numbers               TEXT,
    billing_snapshot          TEXT,
    analytics                 TEXT,
    tags                      TEXT,
    incoming_from_user_prefix TEXT,
    incoming_to_user_prefix   TEXT,
    is_active                 INTEGER,
    register_enabled          INTEGER,
    register_expires          INTEGER,
    register_extra_headers    TEXT,
    rewrite_hostport          INTEGER,
    weight                    INTEGER,
    max_ring_time             INTEGER,
    metadata                  TEXT,
    last_health_check_at      INTEGER,
    created_at                INTEGER NOT NULL,
    updated_at                INTEGER NOT NULL
);

CREATE TABLE routes (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL UNIQUE,
    description TEXT,
    direction   TEXT,
    priority    INTEGER,
    is_active   INTEGER,
    owner       TEXT,
    notes       TEXT,
    -- The whole rule in the JSON shape of the API.
    document    TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
);
