//! The tables of the state file, as steps from version to version.
//!
//! Tools write facts: `run`, `check_result`, `sample`, `heartbeat`. `reliab alert` alone writes `incident`,
//! `notification` and what belongs to them. All times are nanoseconds since 1970, UTC.

/// Step N makes version N + 1 of the schema of version N. Steps that were released never change.
pub(super) const MIGRATIONS: &[&str] = &[RUNS, FACTS, INCIDENTS];

const RUNS: &str = "
    CREATE TABLE run (
        id      INTEGER PRIMARY KEY,
        tool    TEXT NOT NULL,
        job     TEXT NOT NULL,
        started INTEGER NOT NULL, -- nanoseconds since 1970, UTC
        ended   INTEGER,          -- likewise; this and the next three are NULL until the run ends
        outcome TEXT,
        exit    INTEGER,
        figures TEXT,             -- JSON
        pid     INTEGER NOT NULL,
        host    TEXT NOT NULL
    ) STRICT;
    CREATE INDEX run_by_tool ON run (tool, started);
    CREATE TABLE cursor (
        name  TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT;
";

/// The numbers of `check_result` and `heartbeat` never come back: whoever reads on from one misses nothing.
///
/// `run.schedule` is the job of `[schedule]` that a timer started, NULL for a person.
const FACTS: &str = "
    ALTER TABLE run ADD COLUMN schedule TEXT;
    CREATE TABLE check_result (
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        run     INTEGER REFERENCES run (id) ON DELETE SET NULL,
        source  TEXT NOT NULL,    -- the tool
        target  TEXT NOT NULL,    -- what it looked at
        at      INTEGER NOT NULL,
        level   INTEGER NOT NULL, -- 0 ok, 1 warning, 2 critical, 3 unknown
        summary TEXT NOT NULL,    -- one line for people
        detail  TEXT NOT NULL     -- JSON
    ) STRICT;
    CREATE INDEX check_by_target ON check_result (source, target, at);
    CREATE INDEX check_by_time ON check_result (at);
    CREATE TABLE series (
        id     INTEGER PRIMARY KEY,
        source TEXT NOT NULL,
        target TEXT NOT NULL,
        figure TEXT NOT NULL,
        unit   TEXT NOT NULL,
        UNIQUE (source, target, figure)
    ) STRICT;
    CREATE TABLE sample (
        series INTEGER NOT NULL REFERENCES series (id),
        at     INTEGER NOT NULL,
        value  REAL NOT NULL,
        PRIMARY KEY (series, at)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE sample_hour (
        series INTEGER NOT NULL REFERENCES series (id),
        at     INTEGER NOT NULL,  -- the beginning of the hour
        count  INTEGER NOT NULL,
        mean   REAL NOT NULL,
        low    REAL NOT NULL,
        high   REAL NOT NULL,
        PRIMARY KEY (series, at)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE heartbeat (
        id   INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        at   INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX heartbeat_by_name ON heartbeat (name, at);
";

const INCIDENTS: &str = "
    CREATE TABLE incident (
        id           INTEGER PRIMARY KEY AUTOINCREMENT,
        rule         TEXT NOT NULL,    -- the name of the rule
        subject      TEXT NOT NULL,    -- what it is about, such as `probe api`
        state        TEXT NOT NULL,    -- pending, open, closed
        level        INTEGER NOT NULL,
        summary      TEXT NOT NULL,
        began        INTEGER NOT NULL, -- the first fact that fits the rule
        opened       INTEGER,
        closed       INTEGER,
        acknowledged TEXT,             -- by whom
        cause        INTEGER REFERENCES incident (id), -- the open incident that explains this one
        memory       TEXT NOT NULL     -- JSON: what the evaluation must remember of it
    ) STRICT;
    CREATE INDEX incident_by_state ON incident (state, rule, subject);
    CREATE TABLE notification (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        channel  TEXT NOT NULL,
        kind     TEXT NOT NULL,        -- opened, reminder, escalated, closed, passed, flapping, undeliverable, test
        key      TEXT NOT NULL UNIQUE, -- the idempotency key
        message  TEXT NOT NULL,        -- JSON, the same for all kinds of channels
        owed     INTEGER NOT NULL,     -- since when
        due      INTEGER NOT NULL,     -- not before this time
        state    TEXT NOT NULL,        -- owed, delivered, refused, replaced
        attempts INTEGER NOT NULL DEFAULT 0,
        ended    INTEGER,
        error    TEXT                  -- of the last attempt
    ) STRICT;
    CREATE INDEX notification_by_state ON notification (state, channel, id);
    CREATE TABLE notification_incident (
        notification INTEGER NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
        incident     INTEGER NOT NULL REFERENCES incident (id),
        PRIMARY KEY (notification, incident)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE attempt (
        id           INTEGER PRIMARY KEY,
        notification INTEGER NOT NULL REFERENCES notification (id) ON DELETE CASCADE,
        at           INTEGER NOT NULL,
        outcome      TEXT NOT NULL,    -- begun, and then delivered, passing or permanent
        detail       TEXT NOT NULL
    ) STRICT;
    CREATE INDEX attempt_by_notification ON attempt (notification);
    CREATE TABLE silence (
        id       INTEGER PRIMARY KEY AUTOINCREMENT,
        matching TEXT NOT NULL,        -- a pattern on subjects
        since    INTEGER NOT NULL,
        until    INTEGER NOT NULL,
        reason   TEXT NOT NULL,
        by       TEXT NOT NULL
    ) STRICT;
";

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use crate::clock::{Clock as _, FixedClock};
    use crate::exit::Exit;
    use crate::fact::Facts;
    use crate::record::{Recorder, RunRecord, recent};

    /// Version 1 as it was released.
    const RELEASED: &str = "
        CREATE TABLE run (
            id      INTEGER PRIMARY KEY,
            tool    TEXT NOT NULL,
            job     TEXT NOT NULL,
            started INTEGER NOT NULL,
            ended   INTEGER,
            outcome TEXT,
            exit    INTEGER,
            figures TEXT,
            pid     INTEGER NOT NULL,
            host    TEXT NOT NULL
        ) STRICT;
        CREATE INDEX run_by_tool ON run (tool, started);
        CREATE TABLE cursor (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
        INSERT INTO run VALUES (1, 'backup', 'nightly', 5, 6, 'done', 0, 'null', 7, 'host');
        PRAGMA user_version = 1;
    ";

    #[test]
    fn a_released_file_keeps_its_runs_and_records_new_ones() {
        let dir = tempfile::tempdir().unwrap();
        Connection::open(dir.path().join("state.db")).unwrap().execute_batch(RELEASED).unwrap();
        let (recorder, error) = Recorder::open(dir.path());
        assert!(error.is_none(), "{error:?}");
        let clock = FixedClock::new("2026-11-22T12:00:00Z".parse().unwrap());
        RunRecord::start(&recorder, "backup", "nightly", Some("backup"), &clock)
            .finish(Exit::Done, &serde_json::Value::Null, &Facts::default())
            .unwrap();
        let state = recorder.state().unwrap();
        let runs = recent(state, "backup", 10).unwrap();
        assert_eq!(runs.iter().map(|run| run.started).max(), Some(clock.now()));
        assert_eq!(runs.len(), 2);
        let sql = "SELECT schedule FROM run ORDER BY id";
        let schedules: Vec<Option<String>> =
            state.with(|db| db.prepare(sql)?.query_map([], |row| row.get(0))?.collect()).unwrap();
        assert_eq!(schedules, [None, Some("backup".into())]);
    }
}
