//! The script and the README in a repository: a backup brings them up to date.

use std::fs;
use std::sync::Arc;

use chrono::Utc;
use reliab_repo::repository::{README, RECOVER_SH, Repository};
use reliab_testkit::engine::local;
use reliab_testkit::tree::Scratch;

/// What is there after a repository with these texts was opened for a backup.
fn after(script: Option<&str>, readme: &str) -> (String, String) {
    let scratch = Scratch::new().unwrap();
    let folder = scratch.path().join("repo");
    let storage = local(&folder);
    drop(Repository::open_or_create(Arc::clone(&storage), Utc::now()).unwrap());
    match script {
        Some(text) => fs::write(folder.join("recover.sh"), text).unwrap(),
        None => fs::remove_file(folder.join("recover.sh")).unwrap(),
    }
    fs::write(folder.join("README"), readme).unwrap();
    drop(Repository::open_or_create(storage, Utc::now()).unwrap());
    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    (text("recover.sh"), text("README"))
}

#[test]
fn older_damaged_or_lost_texts_are_replaced() {
    let current = (RECOVER_SH.to_owned(), README.to_owned());
    let number = RECOVER_SH.lines().find_map(|line| line.strip_prefix("# recover.sh, edition ")).unwrap();
    assert!(number.parse::<u32>().unwrap() >= 2);
    let damaged = RECOVER_SH.replacen("umask", "unask", 1);
    let older = RECOVER_SH.replacen(&format!("edition {number}"), "edition 1", 1);
    for script in [Some("#!/bin/sh\n# the first ones had no number\n"), Some(&older), Some(&damaged), None] {
        assert!(after(script, "an old text") == current, "{:?}", script.map(|text| &text[..40]));
    }
    assert!(after(Some(RECOVER_SH), "damaged") == current);
}

#[test]
fn texts_of_a_newer_version_stay() {
    let newer = "#!/bin/sh\n# recover.sh, edition 4000\n".to_owned();
    assert_eq!(after(Some(&newer), "a newer text"), (newer, "a newer text".to_owned()));
}
