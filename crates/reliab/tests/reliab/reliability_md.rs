//! The commands in RELIABILITY.md do what the text says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::Bench;

fn text() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../RELIABILITY.md")).unwrap()
}

/// The blocks that are to be run, in order.
fn blocks(text: &str) -> Vec<String> {
    let after = text.split("```sh run\n").skip(1);
    after.map(|block| block.split_once("```").unwrap().0.to_owned()).collect()
}

#[test]
fn every_command_that_is_marked_runs() {
    let bench = Bench::new();
    bench.write("data/etc/app.conf", "port = 80\n");
    bench.write("data/app.db", &"row\n".repeat(1000));
    bench.write("reliab.toml", "[schedule.backup]\nat = \"02:30\"\n");
    assert!(bench.run(&["backup"]).status.success());
    let program = bench.path("..").canonicalize().unwrap();
    let blocks = blocks(&text());
    assert!(blocks.len() >= 15, "{}", blocks.len());
    for block in blocks {
        let output = Command::new("sh")
            .args(["-eu", "-c", &block])
            .current_dir(bench.path(""))
            .env_clear()
            .env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", program.display()))
            .env("HOME", bench.path("home"))
            .env("RELIAB_STATE_DIR", "../state")
            .env("RELIAB_CACHE_DIR", "../cache")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{block}\n{}\n{said}", String::from_utf8_lossy(&output.stdout));
        assert!(!said.contains("warning:"), "{block}\n{said}");
    }
    for restored in ["recovered", "machine", "rescued"] {
        let file = bench.path(restored).join("data/etc/app.conf");
        assert_eq!(fs::read_to_string(file).unwrap(), "port = 80\n", "{restored}");
    }
    assert!(fs::read_to_string(bench.path("units.txt")).unwrap().contains("OnCalendar=*-*-* 02:30:00"));
    assert!(fs::read_to_string(bench.path("crontab.txt")).unwrap().contains("30 2 * * * "));
}

/// Each procedure has its four parts, and no link leads nowhere.
#[test]
fn every_procedure_says_how_to_notice_look_act_and_verify() {
    let text = text();
    let sections: Vec<(&str, &str)> =
        text.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap()).collect();
    let procedures = sections.iter().filter(|(title, _)| !matches!(*title, "What runs when" | "Alerts"));
    assert_eq!(procedures.clone().count(), 10);
    for (title, body) in procedures {
        let places: Vec<_> = ["**Notice.**", "**First look.**", "**Act.**", "**Verify.**"]
            .iter()
            .map(|part| body.find(part))
            .collect();
        assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{title}: {places:?}");
    }
    let anchors: BTreeSet<String> =
        sections.iter().map(|(title, _)| title.to_lowercase().replace(' ', "-")).collect();
    for link in text.split("](#").skip(1) {
        let anchor = link.split(')').next().unwrap();
        assert!(anchors.contains(anchor), "{anchor}");
    }
}
