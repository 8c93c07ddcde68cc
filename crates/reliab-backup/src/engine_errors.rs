//! What the engine's errors mean to a user: exit code, text and next step, one mapping each.

use std::error::Error as StdError;

use reliab_common::exit::Exit;
use reliab_common::failure::ErrorTable;
use reliab_repo::error::Error;

/// The mapping that every command of this crate uses.
pub(crate) const ENGINE_ERRORS: &ErrorTable = &ErrorTable { exit, part, next_step };

fn exit(error: &(dyn StdError + 'static)) -> Option<Exit> {
    error.downcast_ref::<Error>().map(exit_of)
}

/// The engine's texts read after "cannot".
fn part(error: &(dyn StdError + 'static)) -> Option<String> {
    error.downcast_ref::<Error>().map(|error| format!("cannot {error}"))
}

fn next_step(error: &(dyn StdError + 'static)) -> Option<&'static str> {
    let error = error.downcast_ref::<Error>()?;
    error.is_damage().then_some("a verification of the repository lists what is damaged and what it hits")
}

fn exit_of(error: &Error) -> Exit {
    match error {
        Error::NoRepository { .. }
        | Error::NotARepository { .. }
        | Error::NoSnapshot { .. }
        | Error::Usage { .. }
        | Error::Target { .. } => Exit::Usage,
        Error::Locked { .. } => Exit::Locked,
        Error::Damaged { .. } | Error::MissingBlob(_) => Exit::Damaged,
        Error::Storage { .. } if error.is_damage() => Exit::Damaged,
        Error::Storage { .. }
        | Error::Local { .. }
        | Error::Source { .. }
        | Error::Unsupported { .. }
        | Error::Unaccounted { .. }
        | Error::Interrupted
        | Error::Panicked => Exit::Failed,
    }
}
