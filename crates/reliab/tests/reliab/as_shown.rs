//! What is shown can be typed back, and what is asked for is listed.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::support::Bench;

fn told(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

fn done(output: Output) -> Output {
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    output
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Two snapshots of `data`, the second a little later than the first.
fn backed_up() -> Bench {
    let bench = Bench::new();
    bench.write("data/logs/app.log", "first");
    done(bench.run(&["backup", "data", "--quiet"]));
    bench
}

#[test]
fn a_time_as_it_is_shown_means_the_snapshot_that_it_is_shown_of() {
    let bench = backed_up();
    let listed = json(&done(bench.run(&["snapshots", "--json"])));
    let exact = listed["snapshots"][0]["time"].as_str().unwrap().to_owned();
    let text = told(&done(bench.run(&["snapshots"])));
    // The columns: id, then the time in three words.
    let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
    let shown = words[1..4].join(" ");
    assert!(shown.ends_with("+00:00"), "{text}");
    for (number, time) in [&exact, &shown].into_iter().enumerate() {
        for (part, path) in [("", "data/logs/app.log"), (":data/logs", "data/logs/app.log")] {
            let out = format!("out{number}{}", part.len());
            done(bench.run(&["restore", &format!("{time}{part}"), "--target", &out]));
            assert_eq!(fs::read_to_string(bench.path(&out).join(path)).unwrap(), "first", "{time}{part}");
        }
    }
}

#[test]
fn a_path_as_a_source_is_shown_leads_into_the_snapshot_however_the_source_was_named() {
    let bench = backed_up();
    let top = bench.path("");
    let top = top.to_str().unwrap().trim_end_matches('/');
    let below = |source: &str| {
        let whole = format!("latest:{top}/data/logs/app.log");
        let listed = done(bench.run(&["ls", &whole]));
        assert!(told(&listed).trim_end().ends_with("app.log"), "{source}: {}", told(&listed));
        let absent = bench.run(&["ls", &format!("latest:{top}/data/absent")]);
        assert_eq!(absent.status.code(), Some(2), "{source}: {}", told(&absent));
        let as_typed = format!("cannot find {top}/data/absent in snapshot ");
        assert!(told(&absent).contains(&as_typed), "{source}: {}", told(&absent));
    };
    below("data");
    for source in ["./data", &format!("{top}/data"), ".", top, "../work/data", "data/../data/"] {
        done(bench.run(&["backup", source, "--quiet"]));
        below(source);
        let listed = json(&done(bench.run(&["snapshots", "--json", "--latest", "1"])));
        let shown = listed["snapshots"][0]["paths"][0].as_str().unwrap();
        let whole = told(&done(bench.run(&["ls", &format!("latest:{shown}")])));
        assert!(whole.contains("app.log"), "{source}, shown as {shown}: {whole}");
    }
}

#[test]
fn a_path_from_the_root_never_leads_to_another_file() {
    let bench = Bench::new();
    bench.write("srv/app/settings", "outer");
    bench.write("srv/app/app/other", "inner");
    bench.write("mnt/app/settings", "elsewhere");
    let top = bench.path("");
    let top = top.to_str().unwrap().trim_end_matches('/');
    let mut command = bench.command(&["backup", "app", "--quiet", "--repo", "../backups"]);
    done(command.current_dir(bench.path("srv")).output().unwrap());
    let find = |path: &str| bench.run(&["ls", &format!("latest:{top}/{path}")]).status.code();
    assert_eq!(find("srv/app/settings"), Some(0));
    // The name of the source is `app`, so this is not there: `app/settings` is the other one.
    assert_eq!(find("srv/app/app/settings"), Some(2));
    assert_eq!(find("mnt/app/settings"), Some(2));
    // Whose name `app` is cannot be told.
    let mut command =
        bench.command(&["backup", "app", &format!("{top}/mnt/app"), "--quiet", "--repo", "../backups"]);
    done(command.current_dir(bench.path("srv")).output().unwrap());
    assert_eq!(find("srv/app/settings"), Some(2));
    assert_eq!(find("mnt/app/settings"), Some(0));
}

#[test]
fn a_pattern_from_the_root_finds_what_lay_there_however_the_source_was_named() {
    let bench = backed_up();
    let top = bench.path("");
    let top = top.to_str().unwrap().trim_end_matches('/');
    let found = |pattern: &str| {
        let report = json(&done(bench.run(&["find", pattern, "--json", "--snapshot", "latest"])));
        let hits = report["matches"].as_array().unwrap().clone();
        hits.iter().map(|hit| hit["path"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (source, listed) in [
        ("data", "data/logs/app.log"),
        (".", "data/logs/app.log"),
        (top, &format!("{}/data/logs/app.log", &top[1..])),
    ] {
        done(bench.run(&["backup", source, "--quiet", "--exclude", "backups"]));
        for pattern in ["data/logs/*.log", "data/**/app.log", "*/logs/app.log"] {
            assert_eq!(found(&format!("{top}/{pattern}")), [listed], "{source} {pattern}");
        }
        // Also where the name of the source itself is part of the pattern.
        assert_eq!(
            found(&format!("{}/*/data/logs/app.log", top.rsplit_once('/').unwrap().0)),
            [listed],
            "{source}"
        );
        assert_eq!(found(&format!("{top}/logs/*.log")), Vec::<String>::new(), "{source}");
        assert_eq!(found(&format!("/{listed}")), [listed], "as it is listed");
        assert_eq!(found(&format!("{top}/DATA/logs/app.log")), Vec::<String>::new(), "{source}");
    }
    let told = told(&bench.run(&["find", "/nowhere/x", "--verbose"]));
    assert!(
        told.contains(
            "nothing matches in 4 snapshots; paths are matched as `reliab ls --repo backups` shows them"
        ),
        "{told}"
    );
}

#[test]
fn a_source_that_is_called_otherwise_leaves_nothing_under_its_old_name() {
    let bench = Bench::new();
    for number in 0..1500 {
        bench.write(&format!("app/file {number}"), "1");
    }
    bench.write("app/www/index", "old");
    let within = |args: &[&str]| bench.command(args).current_dir(bench.path("app")).output().unwrap();
    done(within(&["backup", ".", "--quiet", "--repo", "../backups"]));
    fs::write(bench.path("app/www/index"), "new").unwrap();
    let app = bench.path("app");
    done(bench.run(&["backup", app.to_str().unwrap(), "--quiet"]));
    // As it was called in the first run, it is not in the second.
    let old = bench.run(&["restore", "latest:www/index", "--target", "out"]);
    assert_eq!(old.status.code(), Some(2), "{}", told(&old));
    done(bench.run(&["restore", &format!("latest:{}/www/index", app.display()), "--target", "out"]));
    let below = app.strip_prefix("/").unwrap().join("www/index");
    assert_eq!(fs::read_to_string(bench.path("out").join(below)).unwrap(), "new");
}

#[test]
fn a_source_that_is_named_twice_is_one() {
    let bench = backed_up();
    let whole = bench.path("data");
    let twice = json(&done(bench.run(&["backup", "data", "./data", whole.to_str().unwrap(), "--json"])));
    assert_eq!(twice["paths"].as_array().unwrap().len(), 1, "{twice}");
    assert!(twice["parent"].is_string(), "{twice}");
    std::os::unix::fs::symlink("data", bench.path("link")).unwrap();
    // With the slash it is what the link leads to.
    done(bench.run(&["backup", "link", "link/", "--quiet"]));
    done(bench.run(&["ls", "latest:link/logs/app.log"]));
}

#[test]
fn verbose_lists_what_a_backup_would_add_and_what_it_added() {
    let bench = backed_up();
    let lines = |args: &[&str]| -> Vec<String> {
        let output = done(bench.run(args));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| line.get(1..5) == Some("    ")).map(str::to_owned).collect()
    };
    let unchanged: [&str; 0] = [];
    assert_eq!(lines(&["backup", "data", "--verbose"]), unchanged);
    bench.write("data/new", "new");
    bench.write("data/logs/app.log", "second, and longer");
    bench.write("data/left out.tmp", "never mentioned");
    let expected = ["M    data/logs/app.log", "+    data/new"];
    let dry = ["backup", "data", "--exclude", "*.tmp", "--dry-run", "--verbose"];
    assert_eq!(lines(&dry), expected);
    assert_eq!(lines(&["backup", "data", "--exclude", "*.tmp", "--verbose"]), expected);
    fs::remove_dir_all(bench.path("data/logs")).unwrap();
    let gone = ["-    data/logs/", "-    data/logs/app.log"];
    assert_eq!(lines(&dry), gone);
    assert_eq!(lines(&["backup", "data", "--exclude", "*.tmp", "--dry-run"]), unchanged);
    let would = ["restore", "--include", "app.log", "--target", "out", "--dry-run", "--verbose"];
    assert!(told(&done(bench.run(&would))).starts_with("create     data/logs/app.log\ndry run: "));
    // A document stays one.
    json(&done(bench.run(&["backup", "data", "--json", "--verbose"])));
}
