-- What this device knows. Everything here but `base`, `root`, `outbox`, `intent_list` and `spelling`
-- can be rebuilt from the store; those five say how this machine's files relate to it.
--
-- Paths are bytes. Hashes and chunk ids are 32 bytes. Times of files are nanoseconds.

-- Device ids as small numbers, since every version carries one.
CREATE TABLE device (
    no INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE
);

-- The verified head of each chain: what `seen` says, and where the next fetch begins.
CREATE TABLE chain (
    ns      TEXT NOT NULL,
    device  INTEGER NOT NULL REFERENCES device,
    seq     INTEGER NOT NULL,
    hash    TEXT NOT NULL,
    lamport INTEGER NOT NULL,
    counter INTEGER NOT NULL,  -- highest version counter up to here
    PRIMARY KEY (ns, device)
) WITHOUT ROWID;

-- Every verified segment: what was seen at which point of a chain.
CREATE TABLE segment (
    ns         TEXT NOT NULL,
    device     INTEGER NOT NULL REFERENCES device,
    seq        INTEGER NOT NULL,
    hash       TEXT NOT NULL,
    lamport    INTEGER NOT NULL,
    counter    INTEGER NOT NULL,  -- highest version counter up to here
    written_at INTEGER NOT NULL,
    accepted   INTEGER NOT NULL,  -- 0: in quarantine, past a fork or a revocation
    PRIMARY KEY (ns, device, seq, hash)
) WITHOUT ROWID;

-- Raw control segments and claims, so that membership is known without asking the store.
CREATE TABLE control_object (
    key  TEXT PRIMARY KEY,
    data BLOB NOT NULL
) WITHOUT ROWID;

-- Every accepted version. `row` rises with the order of acceptance: a root that has pulled up to
-- row N looks at the paths of the versions after N.
CREATE TABLE version (
    row        INTEGER PRIMARY KEY,
    ns         TEXT NOT NULL,
    path       BLOB NOT NULL,
    device     INTEGER NOT NULL REFERENCES device,
    counter    INTEGER NOT NULL,
    live       INTEGER NOT NULL,  -- 1 until a version names this one as its parent
    lamport    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    op         TEXT NOT NULL,
    kind       TEXT NOT NULL,
    file_hash  BLOB NOT NULL,
    file_size  INTEGER NOT NULL,
    mode       INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    target     BLOB NOT NULL,
    size_class INTEGER NOT NULL,
    written_at INTEGER NOT NULL,
    written_by TEXT NOT NULL,
    actor      TEXT NOT NULL,
    moved_from BLOB,
    parents    TEXT NOT NULL,  -- JSON [[device id, counter]]
    clock      TEXT NOT NULL,  -- JSON {device id: counter}
    chunks     BLOB NOT NULL,  -- chunk ids, one after the other
    extra      TEXT            -- JSON of manifest fields this version does not know
);
CREATE INDEX version_path ON version (ns, path);
CREATE UNIQUE INDEX version_id ON version (ns, device, counter);

-- Parents whose versions have not arrived: they are born superseded. A version ends those of its own
-- path alone: two branches of a cloned identity give one number to versions of different paths.
CREATE TABLE superseded (
    ns      TEXT NOT NULL,
    device  INTEGER NOT NULL REFERENCES device,
    counter INTEGER NOT NULL,
    path    BLOB NOT NULL,
    PRIMARY KEY (ns, device, counter, path)
) WITHOUT ROWID;

-- Where packs are: objects of their own, or inside a segment (offset > 0).
CREATE TABLE pack (
    no      INTEGER PRIMARY KEY,
    ns      TEXT NOT NULL,
    id      TEXT NOT NULL UNIQUE,
    key     TEXT NOT NULL,
    offset  INTEGER NOT NULL,
    -- 1 until a segment names it. An upload that was cut off goes on from here.
    pending INTEGER NOT NULL
);
-- Each commit asks for those few; every save that was ever made may have left a pack.
CREATE INDEX pack_pending ON pack (ns) WHERE pending;

-- Where each chunk is.
CREATE TABLE chunk (
    ns           TEXT NOT NULL,
    id           BLOB NOT NULL,
    pack         INTEGER NOT NULL REFERENCES pack,
    frame_offset INTEGER NOT NULL,
    frame_length INTEGER NOT NULL,
    offset       INTEGER NOT NULL,
    length       INTEGER NOT NULL,
    -- Whether a segment told the others where it is. If not, the next one that uses it does.
    announced    INTEGER NOT NULL,
    PRIMARY KEY (ns, id)
) WITHOUT ROWID;

-- A local directory or file and its place in a namespace.
CREATE TABLE root (
    id      INTEGER PRIMARY KEY,
    local   BLOB NOT NULL,     -- absolute path
    ns      TEXT NOT NULL,
    remote  BLOB NOT NULL,     -- path within the namespace; empty = all of it
    marker  TEXT NOT NULL,     -- what `.tcfs/root` in it must say; empty for a single file
    device  INTEGER NOT NULL,  -- st_dev and st_ino where no marker could be written, else 0
    inode   INTEGER NOT NULL,
    pulled  INTEGER NOT NULL,  -- `version.row` up to which remote changes were taken up
    UNIQUE (local, ns, remote)
);

-- The last synced tree: what this root last had on disk, of which versions, with the file's stat.
-- Paths are relative to the root; the root itself is the empty path.
CREATE TABLE base (
    root       INTEGER NOT NULL REFERENCES root ON DELETE CASCADE,
    path       BLOB NOT NULL,
    ids        TEXT NOT NULL,  -- JSON [[device id, counter]]: parents of the next local edit
    clock      TEXT NOT NULL,  -- JSON {device id: counter}
    kind       TEXT NOT NULL,
    size       INTEGER NOT NULL,
    mode       INTEGER NOT NULL,
    mtime_ns   INTEGER NOT NULL,
    ctime_ns   INTEGER NOT NULL,  -- 0: the stat is not to be trusted, compare content
    inode      INTEGER NOT NULL,
    file_hash  BLOB NOT NULL,
    target     BLOB NOT NULL,
    size_class INTEGER NOT NULL,
    PRIMARY KEY (root, path)
) WITHOUT ROWID;

-- Remote changes taken up but not yet on disk.
CREATE TABLE todo (
    root INTEGER NOT NULL REFERENCES root ON DELETE CASCADE,
    path BLOB NOT NULL,
    PRIMARY KEY (root, path)
) WITHOUT ROWID;

-- What a pull is about to put on disk, written before the first rename: a list for each batch,
-- since they come and go together. After a crash a path that holds what was intended is remembered
-- as pulled; any other is pulled again. Of two intents for one path the later counts. Temporary
-- names carry the number of their list, which is never given twice.
CREATE TABLE intent_list (
    id     INTEGER PRIMARY KEY AUTOINCREMENT,
    root   INTEGER NOT NULL REFERENCES root ON DELETE CASCADE,
    -- MessagePack: [[path, kind, version or nil, ids or nil, clock or nil, mode or nil, displaces or
    -- nil], ...]. kind 'tombstone' and no version: a removal. nil: the ids, clock and mode of that
    -- version. displaces: the mtime of the file or link that gives way.
    listed BLOB NOT NULL
);

-- What paths are called on a disk that takes several names for one, where that is not what the fleet
-- calls them; see tcfs.sync.spelling. Written before the disk is changed. A row whose name is not
-- on disk means nothing.
CREATE TABLE spelling (
    path BLOB PRIMARY KEY,  -- absolute; below its root spelt as in the fleet
    name BLOB NOT NULL      -- its last name on disk
) WITHOUT ROWID;

-- Finished segments that may not be in the store yet. A retry sends the same bytes.
CREATE TABLE outbox (
    ns   TEXT NOT NULL,
    seq  INTEGER NOT NULL,
    key  TEXT NOT NULL,
    data BLOB NOT NULL,
    root INTEGER  -- whose base follows from the segment; NULL for none
);
CREATE UNIQUE INDEX outbox_key ON outbox (key);

-- Has a row from when the caches of the store were emptied until they are whole again. Whoever went
-- by a part of them would write this device's own chain a second time, or take what is not there for
-- news.
CREATE TABLE rebuilding (
    since INTEGER NOT NULL  -- unix seconds
);

-- What was refused, frozen or held back, for status and audit.
CREATE TABLE finding (
    ns      TEXT NOT NULL,
    device  TEXT NOT NULL,
    seq     INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    reason  TEXT NOT NULL,
    found_at INTEGER NOT NULL,
    PRIMARY KEY (ns, device, seq, kind)
) WITHOUT ROWID;

-- Events of accepted segments that access rules refuse: kept whole, since a later change of the
-- rules may accept them, and for audit.
CREATE TABLE refused (
    ns         TEXT NOT NULL,
    device     INTEGER NOT NULL REFERENCES device,
    counter    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    lamport    INTEGER NOT NULL,
    path       BLOB NOT NULL,
    reason     TEXT NOT NULL,
    event      BLOB NOT NULL,  -- JSON of the content event
    PRIMARY KEY (ns, device, counter)
) WITHOUT ROWID;

-- The rules by which the versions of a namespace were last judged.
CREATE TABLE judged (
    ns    TEXT PRIMARY KEY,
    rules TEXT NOT NULL  -- hash of the changes
) WITHOUT ROWID;

-- What this device's git repositories last had in common with the fleet, register by register (see
-- FORMAT.md, *Git repositories*): the third side of every decision about a ref, as `base` is for
-- files. `repo` is relative to the root.
CREATE TABLE git_base (
    root  INTEGER NOT NULL REFERENCES root ON DELETE CASCADE,
    repo  BLOB NOT NULL,
    -- HEAD, index, format or a full ref name; empty: `value` tells what the git directory looked
    -- like when all of this was so.
    name  BLOB NOT NULL,
    value BLOB NOT NULL,
    ids   TEXT NOT NULL,  -- JSON [[device id, counter]]: parents of the next local change
    PRIMARY KEY (root, repo, name)
) WITHOUT ROWID;

-- Ref updates that a pull has begun in a repository, written before the first of them. After a
-- crash they are completed before anything else is done there.
CREATE TABLE git_arrival (
    root  INTEGER NOT NULL REFERENCES root ON DELETE CASCADE,
    repo  BLOB NOT NULL,
    steps TEXT NOT NULL,  -- JSON; see tcfs.sync.git.arrival
    PRIMARY KEY (root, repo)
) WITHOUT ROWID;

-- Garbage collection. All of it can be rebuilt from the store.

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

-- Packs that somebody marked, which may be gone at any time once all have acknowledged it; and those
-- inside segments past a fork, which others need not know.
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

-- Packs to which chunks were moved, by a segment that was taken up while the store did not show the
-- pack, or showed it damaged: asked for until it is read or marked.
CREATE TABLE unread_pack (
    id TEXT PRIMARY KEY,
    ns TEXT NOT NULL
) WITHOUT ROWID;

-- What each device's last accepted segment had seen, of the control ledger and of its namespace.
CREATE TABLE progress (
    ns      TEXT NOT NULL,
    device  INTEGER NOT NULL REFERENCES device,
    control TEXT NOT NULL,  -- JSON {device id: [seq, hash]}
    seen    TEXT NOT NULL,
    PRIMARY KEY (ns, device)
) WITHOUT ROWID;
