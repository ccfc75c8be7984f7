-- Who may ask: users and their roles, sessions, tokens; and what was done (audit).
-- Times are milliseconds since 1970 UTC, flags 0 or 1.

CREATE TABLE console_users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    username      TEXT NOT NULL UNIQUE,
    email         TEXT UNIQUE,
    -- Argon2id in PHC form.
    password_hash TEXT NOT NULL,
    is_active     INTEGER NOT NULL DEFAULT 1,
    is_staff      INTEGER NOT NULL DEFAULT 0,
    is_superuser  INTEGER NOT NULL DEFAULT 0,
    last_login_at INTEGER,
    last_login_ip TEXT,
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL
);

CREATE TABLE console_roles (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    name        TEXT NOT NULL UNIQUE,
    description TEXT,
    is_system   INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL
);

CREATE TABLE console_role_permissions (
    role_id  INTEGER NOT NULL REFERENCES console_roles (id) ON DELETE CASCADE,
    resource TEXT NOT NULL,
    action   TEXT NOT NULL,
    PRIMARY KEY (role_id, resource, action)
) WITHOUT ROWID;

CREATE TABLE console_user_roles (
    user_id INTEGER NOT NULL REFERENCES console_users (id) ON DELETE CASCADE,
    role_id INTEGER NOT NULL REFERENCES console_roles (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, role_id)
) WITHOUT ROWID;

CREATE TABLE sessions (
    -- SHA-256 of what the cookie carries.
    id_hash    TEXT PRIMARY KEY,
    user_id    INTEGER NOT NULL REFERENCES console_users (id) ON DELETE CASCADE,
    csrf_token TEXT NOT NULL,
    source     TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_created ON sessions (created_at);

CREATE TABLE api_tokens (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The part of the token that is not secret.
    public_id    TEXT NOT NULL UNIQUE,
    name         TEXT NOT NULL,
    -- SHA-256 of the whole token.
    token_hash   TEXT NOT NULL,
    -- Words with blanks between.
    scopes       TEXT NOT NULL,
    -- Networks that it may come from; empty: any.
    networks     TEXT NOT NULL,
    created_by   TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER,
    last_used_ip TEXT,
    revoked_at   INTEGER
);

CREATE TABLE audit_log (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    at        INTEGER NOT NULL,
    actor     TEXT NOT NULL,
    source    TEXT NOT NULL,
    action    TEXT NOT NULL,
    object    TEXT NOT NULL,
    -- done, refused, failed
    outcome   TEXT NOT NULL,
    -- JSON without secrets.
    before    TEXT,
    after     TEXT,
    detail    TEXT
);
CREATE INDEX audit_log_at ON audit_log (at);

INSERT INTO console_roles (name, description, is_system, created_at, updated_at)
SELECT column1, column2, 1, strftime('%s', 'now') * 1000, strftime('%s', 'now') * 1000
FROM (VALUES
    ('admin', 'Everything'),
    ('operator', 'Runs the gateway: calls, extensions, trunks, routes, webhooks'),
    ('analyst', 'Reads call records and listens to recordings'),
    ('auditor', 'Reads everything but recordings, the audit log included'),
    ('viewer', 'Sees calls, call records and configuration'));

INSERT INTO console_role_permissions (role_id, resource, action)
SELECT console_roles.id, column2, column3
FROM (VALUES
    ('admin', '*', '*'),
    ('operator', 'calls', 'read'), ('operator', 'calls', 'control'),
    ('operator', 'cdr', 'read'), ('operator', 'cdr', 'write'),
    ('operator', 'cdr', 'read:recording'),
    ('operator', 'extensions', 'read'), ('operator', 'extensions', 'write'),
    ('operator', 'trunks', 'read'), ('operator', 'trunks', 'write'),
    ('operator', 'routes', 'read'), ('operator', 'routes', 'write'),
    ('operator', 'webhooks', 'read'), ('operator', 'webhooks', 'write'),
    ('operator', 'system', 'read'), ('operator', 'ami', 'access'),
    ('analyst', 'calls', 'read'), ('analyst', 'cdr', 'read'),
    ('analyst', 'cdr', 'read:recording'),
    ('auditor', 'calls', 'read'), ('auditor', 'cdr', 'read'),
    ('auditor', 'extensions', 'read'), ('auditor', 'trunks', 'read'),
    ('auditor', 'routes', 'read'), ('auditor', 'webhooks', 'read'),
    ('auditor', 'system', 'read'), ('auditor', 'audit', 'read'),
    ('viewer', 'calls', 'read'), ('viewer', 'cdr', 'read'),
    ('viewer', 'extensions', 'read'), ('viewer', 'trunks', 'read'),
    ('viewer', 'routes', 'read'), ('viewer', 'system', 'read'))
JOIN console_roles ON console_roles.name = column1;
