-- How far each journal of a shard is stored: records in front of it are in call_records.
CREATE TABLE journal_marks (
    -- Of the start of the process, 16 hex digits.
    run         TEXT NOT NULL,
    shard       INTEGER NOT NULL,
    segment     INTEGER NOT NULL,
    byte_offset INTEGER NOT NULL,
    -- 1: everything is stored, its files may go.
    finished    INTEGER NOT NULL,
    PRIMARY KEY (run, shard)
) WITHOUT ROWID;
