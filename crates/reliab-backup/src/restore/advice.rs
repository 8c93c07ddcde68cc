//! What to do about a restore that ended before it was done: run again as it was it would be refused, as the target is no
//! longer empty.

use reliab_repo::error::Error;
use rustix::io::Errno;

use super::Options;
use crate::failure::Advised;

/// The error with what was being done and the next step; the error itself where its own says it.
pub(super) fn on(error: Error, options: &Options) -> Result<anyhow::Error, Error> {
    match next_step(&error, options) {
        Some(next_step) => {
            Ok(anyhow::Error::new(error).context(Advised { doing: doing(options), next_step }))
        }
        None => Err(error),
    }
}

fn doing(options: &Options) -> String {
    if options.rehearsal {
        return "the rehearsal is not complete".to_owned();
    }
    format!("the restore into {} is not complete", options.engine.target.display())
}

fn next_step(error: &Error, options: &Options) -> Option<String> {
    let first = match error {
        // Of the target: what the repository has wrong is another error.
        Error::Local { action: "restore", source, .. } => match Errno::from_io_error(source) {
            Some(Errno::NOSPC | Errno::DQUOT) => "make room there and ",
            Some(Errno::ROFS) => "mount it for writing and ",
            Some(Errno::MFILE | Errno::NFILE) => "allow more open files (ulimit -n) and ",
            _ => "see to its disk and ",
        },
        Error::Interrupted if !options.rehearsal && !options.engine.dry_run => "",
        _ => return None,
    };
    let again = match (options.rehearsal, options.engine.overwrite) {
        (true, _) => "rehearse again, or name a folder on another disk with --scratch",
        (_, None) => "run it again with --overwrite if-changed: what is there is whole",
        (_, Some(_)) => "run it again: each file is as it was or as it should be",
    };
    Some(format!("{first}{again}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reliab_common::failure::{ErrorTable, Failure};
    use reliab_repo::restore::{Overwrite, RestoreOptions};

    fn told(errno: Errno, rehearsal: bool, overwrite: Option<Overwrite>) -> String {
        let engine = RestoreOptions {
            target: "out".into(),
            below: None,
            include: Vec::new(),
            exclude: Vec::new(),
            overwrite,
            dry_run: false,
            threads: 1,
        };
        let options = Options { engine, verify: rehearsal, rehearsal };
        let error = on(Error::local("restore", "data/file")(errno.into()), &options).unwrap();
        Failure::of(&error, &ErrorTable::COMMON).text
    }

    #[test]
    fn what_is_advised_after_a_restore_that_broke_off_is_not_refused() {
        let full = "the restore into out is not complete: restore data/file: No space left on device; make room there and \
                    run it again with --overwrite if-changed: what is there is whole";
        assert_eq!(told(Errno::NOSPC, false, None), full);
        let broken = told(Errno::IO, false, Some(Overwrite::Always));
        assert!(
            broken.ends_with("; see to its disk and run it again: each file is as it was or as it should be")
        );
        let scratch = told(Errno::ROFS, true, None);
        assert!(
            scratch.ends_with("rehearse again, or name a folder on another disk with --scratch"),
            "{scratch}"
        );
        assert!(
            told(Errno::MFILE, false, None).contains("; allow more open files (ulimit -n) and run it again")
        );
    }
}
