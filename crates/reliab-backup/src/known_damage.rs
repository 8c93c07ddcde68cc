//! Damage that a verification has found and none since has found to be gone.
//!
//! A backup does not read what it finds stored, so it would go on building upon what is damaged.

use std::path::Path;

use chrono::{DateTime, Utc};
use reliab_common::clock;
use reliab_common::exit::Exit;
use reliab_common::state::{State, StateError, time};

use crate::creation::location;
use crate::repo::command;

/// Where to go on with a damaged repository.
pub(crate) const REPAIR: &str = "under \"Repair\" the README of reliab says how to mend it";

/// Verifications that are looked at, the latest first.
const RECENT: u32 = 200;

/// A verification that ended with or without damage that cost something.
#[derive(Clone, Copy, Debug)]
struct Verified {
    at: DateTime<Utc>,
    damaged: bool,
    depth: Depth,
}

/// How much of a repository was read. A part of it proves nothing of the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Depth {
    Sample,
    Structure,
    Packs,
    Data,
}

/// What to tell before a backup into a repository that is known as damaged.
pub(crate) fn warning(folder: &Path, state: Option<&State>) -> Option<String> {
    // A record that cannot be read is told of when this run is written to it.
    let found = last_found(&verifications(state?, folder).ok()?)?;
    let verify = command("verify", folder);
    Some(format!(
        "`reliab verify` found damage in this repository on {}, and a backup stores nothing anew that it finds there: \
         {verify} names what is hit; {REPAIR}",
        clock::local(found)
    ))
}

/// When damage was found that no verification since, which read as much, has found to be gone.
fn last_found(latest_first: &[Verified]) -> Option<DateTime<Utc>> {
    let mut proved = Depth::Sample;
    for verified in latest_first {
        // Where a sample has found something, all packs must be read to know that it is gone.
        let needed = if verified.depth == Depth::Sample { Depth::Packs } else { verified.depth };
        if !verified.damaged {
            proved = proved.max(verified.depth);
        } else if proved < needed {
            return Some(verified.at);
        }
    }
    None
}

/// The verifications of the repository of this folder.
fn verifications(state: &State, folder: &Path) -> Result<Vec<Verified>, StateError> {
    let location = location(folder).display().to_string();
    let sql = "SELECT ended, exit, figures ->> '$.lost', figures ->> '$.level', figures ->> '$.sample' FROM (
            SELECT id, ended, exit, CASE WHEN json_valid(figures) THEN figures ELSE '{}' END AS figures FROM run
            WHERE tool = 'verify' AND ended IS NOT NULL AND exit IN (?2, ?3)
        ) WHERE figures ->> '$.location' = ?1 ORDER BY ended DESC, id DESC LIMIT ?4";
    state.with(|db| {
        let mut statement = db.prepare(sql)?;
        let ends = (location, Exit::Done.code(), Exit::Damaged.code(), RECENT);
        let rows = statement.query_map(ends, |row| {
            let (exit, lost): (u8, Option<i64>) = (row.get(1)?, row.get(2)?);
            let (level, sample): (Option<String>, Option<f64>) = (row.get(3)?, row.get(4)?);
            let depth = match (sample, level.as_deref()) {
                (Some(_), _) => Depth::Sample,
                (None, Some("data")) => Depth::Data,
                (None, Some("packs")) => Depth::Packs,
                _ => Depth::Structure,
            };
            let damaged = exit == Exit::Damaged.code() && lost != Some(0);
            Ok(Verified { at: time(row.get(0)?), damaged, depth })
        })?;
        rows.collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_known_until_a_verification_that_reads_as_much_finds_none() {
        use Depth::{Data, Packs, Sample, Structure};
        // In the order in which they were: true where damage was found.
        let check = |runs: &[(Depth, bool)], expected: Option<usize>| {
            let at = |number: usize| DateTime::from_timestamp(i64::try_from(number).unwrap(), 0).unwrap();
            let verified = runs.iter().enumerate();
            let verified =
                verified.map(|(number, &(depth, damaged))| Verified { at: at(number), damaged, depth });
            let latest_first: Vec<_> = verified.rev().collect();
            assert_eq!(last_found(&latest_first), expected.map(at), "{runs:?}");
        };
        check(&[], None);
        check(&[(Data, false)], None);
        check(&[(Packs, true)], Some(0));
        check(&[(Packs, true), (Packs, true)], Some(1));
        check(&[(Packs, true), (Structure, false)], Some(0));
        check(&[(Packs, true), (Structure, false), (Packs, false)], None);
        check(&[(Structure, true), (Structure, false)], None);
        check(&[(Sample, true), (Sample, false), (Structure, false)], Some(0));
        check(&[(Sample, true), (Packs, false)], None);
        check(&[(Data, true), (Packs, false), (Sample, true), (Packs, false)], Some(0));
        check(&[(Data, true), (Data, false), (Sample, false)], None);
    }
}
