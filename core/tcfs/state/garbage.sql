-- What garbage collection has to know. All of it can be rebuilt from the store.

-- Further places of chunks: the table `chunk` has one for each, and these are why its pack can go.
CREATE TABLE chunk_copy (
    ns           TEXT NOT NULL,
    id           BLOB NOT NULL,
    pack         INTEGER NOT NULL REFERENCES pack ON DELETE CASCADE,
    frame_offset INTEGER NOT NULL,
    frame_length INTEGER NOT NULL,
    offset       INTEGER NOT NULL,
    length       INTEGER NOT NULL,
    announced    INTEGER NOT NULL,
    PRIMARY KEY (ns, id, pack)
) WITHOUT ROWID;
CREATE INDEX chunk_copy_pack ON chunk_copy (pack);

-- Packs that somebody marked. They may be gone at any time once all have acknowledged it.
CREATE TABLE marked_pack (
    id TEXT PRIMARY KEY,
    ns TEXT NOT NULL
) WITHOUT ROWID;

-- Places of chunks in marked packs: good for reading while they last, and for nothing new. A chunk
-- that also stands in `chunk` has a place that stays.
CREATE TABLE marked_chunk (
    ns           TEXT NOT NULL,
    id           BLOB NOT NULL,
    pack         INTEGER NOT NULL REFERENCES pack ON DELETE CASCADE,
    frame_offset INTEGER NOT NULL,
    frame_length INTEGER NOT NULL,
    offset       INTEGER NOT NULL,
    length       INTEGER NOT NULL,
    announced    INTEGER NOT NULL,
    PRIMARY KEY (ns, id, pack)
) WITHOUT ROWID;
CREATE INDEX marked_chunk_pack ON marked_chunk (pack);

-- What each device's last accepted segment had seen, of the control ledger and of its namespace.
CREATE TABLE progress (
    ns      TEXT NOT NULL,
    device  INTEGER NOT NULL REFERENCES device,
    control TEXT NOT NULL,  -- JSON {device id: [seq, hash]}
    seen    TEXT NOT NULL,
    PRIMARY KEY (ns, device)
) WITHOUT ROWID;
