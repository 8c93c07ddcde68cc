//! Files with several names.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use reliab_testkit::between_names::BetweenNames;

use super::lab::{OTHERS, Outcome, SHELLS};

/// Content, mode and mtime to the second.
fn seen(path: &Path) -> (Vec<u8>, u32, i64) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (fs::read(path).unwrap(), metadata.mode(), metadata.mtime())
}

#[test]
fn a_file_that_changed_while_its_names_were_read_comes_back_as_each_says() {
    BetweenNames::each(|lab| {
        for shell in SHELLS.into_iter().chain(OTHERS) {
            shell.install(lab.path());
            let mut command = shell.command(lab.path());
            let outcome = Outcome::of(command.args(["repo/recover.sh", "restore", "latest", "out"]));
            assert_eq!(outcome.code, Some(0), "{shell:?}: {}", outcome.stderr);
            let names = lab.restored(&lab.path().join("out"));
            for (name, expected) in names.iter().zip(lab.expected()) {
                assert!(seen(name) == seen(&expected), "{shell:?}: {}", name.display());
            }
            let inodes = names.map(|name| fs::metadata(name).unwrap().ino());
            assert_eq!(inodes[1], inodes[2], "{shell:?}");
            assert_ne!(inodes[0], inodes[1], "{shell:?}");
            fs::remove_dir_all(lab.path().join("out")).unwrap();
        }
    });
}
