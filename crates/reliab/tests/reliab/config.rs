//! `reliab config`: what is shown, what the schema of the file refuses, what is warned of.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{self, Bench};
use reliab_testkit::json_schema;
use serde_json::Value;

/// The root of the project.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// The blocks of TOML in a document.
fn blocks(text: &str) -> Vec<String> {
    let fenced = text.split("\n```toml\n").skip(1);
    fenced.map(|rest| rest.split_once("\n```").unwrap().0.to_owned() + "\n").collect()
}

/// Every configuration that stands in a document, with the document's name.
fn examples() -> Vec<(String, String)> {
    let mut examples =
        vec![("backup/reliab.toml".into(), fs::read_to_string(root().join("backup/reliab.toml")).unwrap())];
    let documents = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for document in
        documents.chain([root().join("README.md")]).filter(|path| path.extension().is_some_and(|e| e == "md"))
    {
        let name = document.file_name().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(&document).unwrap();
        examples
            .extend(blocks(&text).into_iter().enumerate().map(|(at, text)| (format!("{name} {at}"), text)));
    }
    examples
}

/// What the schema that is printed has against each configuration.
fn refused(bench: &Bench, texts: &[String]) -> Vec<Vec<String>> {
    let output = bench.run(&["config", "schema"]);
    assert!(output.status.success());
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let values: Vec<_> = texts.iter().map(|text| ("config".to_owned(), as_json(text))).collect();
    json_schema::violations(&[("config".to_owned(), schema)].into(), &values).unwrap()
}

fn as_json(text: &str) -> Value {
    serde_json::to_value(toml::from_str::<toml::Table>(text).unwrap()).unwrap()
}

/// Exit code and text of a check of this configuration.
fn check(bench: &Bench, text: &str) -> (Option<i32>, String) {
    bench.write("reliab.toml", text);
    let output = bench.run(&["config", "check"]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn every_example_of_the_documents_fits_the_schema_and_is_shown_as_what_it_is() {
    let bench = Bench::new();
    let examples = examples();
    assert!(examples.len() >= 10, "{}", examples.len());
    let mut texts = Vec::new();
    for (name, text) in &examples {
        texts.push(text.clone());
        bench.write("reliab.toml", text);
        let shown = bench.run(&["config", "show"]);
        assert!(shown.status.success(), "{name}: {}", String::from_utf8_lossy(&shown.stderr));
        let shown = String::from_utf8(shown.stdout).unwrap();
        bench.write("reliab.toml", &shown);
        let again = String::from_utf8(bench.run(&["config", "show"]).stdout).unwrap();
        assert_eq!(again, shown, "{name}");
        texts.push(shown);
    }
    for (problems, text) in refused(&bench, &texts).iter().zip(&texts) {
        assert_eq!(problems, &Vec::<String>::new(), "{text}");
    }
}

#[test]
fn what_a_check_refuses_the_schema_refuses_too() {
    let bench = Bench::new();
    let texts = [
        "[backups]\n",
        "[backup]\nsource = [\"data\"]\n",
        "[backup]\ncompression = 20\n",
        "[backup]\nhost = 1\n",
        "[backup]\nexclude_larger_than = \"much\"\n",
        "[backup]\nexclude_larger_than = 5\n",
        "[alert]\nremind = \"soon\"\n",
        "[channel.a]\ntype = \"fax\"\n",
        "[channel.a]\nurl = \"x\"\n",
        "[channel.a]\ntype = \"slack\"\nurl = \"https://hooks.example.org/\"\n",
        "[channel.a]\ntype = \"console\"\ncolour = true\n",
        "[channel.a]\ntype = \"email\"\nfrom = \"a@b.c\"\nto = [\"a@b.c\"]\nsmtp = { host = \"h\", prot = 25 }\n",
        "[channel.a]\ntype = \"ntfy\"\ntopic = { file = \"a\", env = \"b\" }\n",
        "[disk]\nwarn = { used = \"much\" }\n",
        "[[disk.mount]]\nread_only = true\n",
        "[[disk.database]]\nname = \"a\"\nkind = \"oracle\"\n",
        "[[maintenance]]\nmatches = \"x\"\n",
        "[[probe]]\ntcp = \"127.0.0.1:80\"\n",
        "[[probe]]\nname = \"a\"\n",
        "[[probe]]\nname = \"a\"\ntcp = \"127.0.0.1:80\"\ntls = \"127.0.0.1:80\"\n",
        "[[probe]]\nname = \"a\"\ntcp = \"127.0.0.1:80\"\nip = 5\n",
        "[[probe]]\nname = \"a\"\nhttp = \"http://127.0.0.1\"\nversion = \"3\"\n",
        "[[probe]]\nname = \"a\"\nhttp = \"http://127.0.0.1\"\nexpect.latency = 5\n",
        "[[probe]]\nname = \"a\"\nhttp = \"http://127.0.0.1\"\nexpect.latency = \"soon\"\n",
        "[[probe]]\nname = \"a\"\nhttp = \"http://127.0.0.1\"\nexpect.cert_days = { warm = 5 }\n",
        "[[probe]]\nname = \"a\"\nhttp = \"http://127.0.0.1\"\nexpect.status = [[200]]\n",
        "[[rule]]\nname = \"a\"\n",
        "[[rule]]\nwhen = \"probe * is down\"\nlevel = \"bad\"\n",
        "[schedule.backup]\n",
        "[schedule.backup]\nevery = \"1h\"\nat = \"02:30\"\n",
        "[schedule.backup]\nevery = 5\n",
        "[[service]]\nnmae = \"a\"\n",
        "[[slo]]\nname = \"a\"\nobjective = 100\n",
        "[uplink]\nreferences = \"https://example.org\"\n",
    ]
    .map(str::to_owned);
    for (problems, text) in refused(&bench, &texts).iter().zip(&texts) {
        assert!(!problems.is_empty(), "the schema takes {text}");
        let (code, said) = check(&bench, text);
        assert_eq!(code, Some(2), "{text}: {said}");
    }
}

#[test]
fn what_holds_is_shown_without_secrets() {
    let bench = Bench::new();
    bench.write("token", "planted");
    bench.write(
        "reliab.toml",
        "[[probe]]\nname = \"api\"\nhttp = \"https://api.example.org/\"\nbearer = { file = \"token\" }\n\
         headers = { X-Token = \"planted\" }\n[schedule.probe]\nevery = \"1m\"\n[channel.ops]\ntype = \"slack\"\n\
         url = { env = \"SLACK\" }\n",
    );
    let run = |args: &[&str]| {
        let output = bench
            .command(&[&["config", "show"], args].concat())
            .env("SLACK", "https://planted")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(&[]);
    assert!(
        text.starts_with(
            "# file: reliab.toml\n# state: ../state\n# cache: ../cache\n# built-in rules: probe, "
        ),
        "{text}"
    );
    for line in [
        "repository = \"backups\"",
        "file = \"token\"",
        "env = \"SLACK\"",
        "late_after = \"6m\"",
        "timeout = \"10m\"",
        "X-Token = \"[secret]\"",
        "group = \"1m\"",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let json = run(&["--json"]);
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&report["schema"], &report["file"]), (&"reliab.config.v1".into(), &"reliab.toml".into()));
    assert_eq!(report["config"], as_json(&text));
    assert!(!text.contains("planted") && !json.contains("planted"));
    bench.write("reliab.toml", "[backup]\nhost = 1\n");
    let broken = bench.run(&["config", "show", "--json"]);
    let report: Value = serde_json::from_slice(&broken.stdout).unwrap();
    assert_eq!((broken.status.code(), &report["schema"]), (Some(2), &"reliab.config.v1".into()));
    assert_eq!(report["error"], "reliab.toml:2:8: invalid type: integer `1`, expected a string");
    let described = bench.run(&["config", "schema", "--json"]);
    let report: Value = serde_json::from_slice(&described.stdout).unwrap();
    assert_eq!(report["schema"], "reliab.config-schema.v1");
    assert_eq!(report["json_schema"]["title"], "reliab.toml");
}

#[test]
fn names_that_nothing_has_are_warned_of() {
    let bench = Bench::new();
    let rule = |name| {
        format!(
            "[[probe]]\nname = \"api\"\ntcp = \"127.0.0.1:80\"\n[[rule]]\nname = \"down\"\n\
             when = \"probe {name} is critical\"\n[[maintenance]]\nmatching = \"probe {name}\"\nstart = \"02:00\"\nend = \"04:00\"\n"
        )
    };
    assert_eq!(check(&bench, &rule("api")), (Some(0), "reliab.toml is well\n".into()));
    let expected = "reliab.toml can be used, with 2 warnings\n\
        warning: reliab.toml: rule `down`: no probe is called `apo`; did you mean `api`?\n\
        warning: reliab.toml: [[maintenance]]: no probe is called `apo`; did you mean `api`?\n";
    assert_eq!(check(&bench, &rule("apo")), (Some(0), expected.into()));
    let json = bench.run(&["config", "check", "--json"]);
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["schema"], "reliab.config-check.v1");
    assert_eq!(
        (report["problems"].as_array().unwrap().len(), report["warnings"].as_array().unwrap().len()),
        (0, 2)
    );
}

#[test]
fn secrets_that_are_absent_or_not_secret_are_warned_of() {
    let bench = Bench::new();
    let text = "[channel.ops]\ntype = \"slack\"\nurl = { file = \"slack-url\" }\n";
    let warned = |expected: &str| {
        let (code, said) = check(&bench, text);
        assert_eq!(code, Some(0), "{said}");
        assert!(
            said.contains("warning: reliab.toml: secret channel.ops.url: ") && said.contains(expected),
            "{said}"
        );
    };
    warned("slack-url: No such file");
    bench.write("slack-url", "");
    warned("slack-url is empty: write the secret into");
    bench.write("slack-url", "https://hooks.example.org/planted\n");
    let mode = |mode| fs::set_permissions(bench.path("slack-url"), fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    warned("can be read by everybody (mode 644): chmod 600");
    mode(0o640);
    warned("can be read by its group (mode 640)");
    mode(0o600);
    assert_eq!(check(&bench, text), (Some(0), "reliab.toml is well\n".into()));
    fs::remove_file(bench.path("slack-url")).unwrap();
    fs::create_dir(bench.path("slack-url")).unwrap();
    warned("slack-url is a folder");
    let text = "[channel.ops]\ntype = \"slack\"\nurl = { env = \"ABSENT\" }\n";
    assert!(check(&bench, text).1.contains("secret channel.ops.url: $ABSENT is not set here"));
}

#[test]
fn a_secret_that_may_not_be_read_is_warned_of() {
    let mut bench = Bench::new();
    bench.write("reliab.toml", "[channel.ops]\ntype = \"slack\"\nurl = { file = \"slack-url\" }\n");
    bench.write("slack-url", "https://hooks.example.org/planted\n");
    let mode = if support::is_root() { 0o600 } else { 0o000 };
    fs::set_permissions(bench.path("slack-url"), fs::Permissions::from_mode(mode)).unwrap();
    let output = bench.show_as_nobody(&["config", "check"]).unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("slack-url: Permission denied"), "{said}");
}

#[test]
fn doctor_breaks_lines_between_words_where_columns_are_few() {
    let bench = Bench::new();
    bench.write("reliab.toml", "[channel.ops]\ntype = \"slack\"\nurl = { file = \"slack-url\" }\n");
    let said = |columns: &str| {
        let output =
            bench.command(&["doctor"]).env("COLUMNS", columns).env("PATH", "/nowhere").output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let (whole, narrow) = (said(""), said("80"));
    assert!(whole.lines().any(|line| line.chars().count() > 80), "{whole}");
    // A path may be longer than a line.
    assert!(
        narrow.lines().all(|line| line.chars().count() <= 80 || line.trim().split(' ').count() == 1),
        "{narrow}"
    );
    assert!(narrow.lines().count() > whole.lines().count());
}

/// What the document says is printed, is.
#[test]
fn the_document_shows_what_is_printed() {
    let bench = Bench::new();
    let document = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let example = blocks(&document).swap_remove(0);
    let printed = |command: &str| {
        let line = format!("$ reliab config {command}\n");
        let sessions = document.split(line.as_str()).skip(1);
        let texts = sessions.map(|rest| rest.split_once("```").unwrap().0.replace("/etc/reliab/", ""));
        texts.collect::<Vec<_>>()
    };
    let [well, unknown_key, warned] = &printed("check")[..] else { panic!() };
    assert!(check(&bench, &example.replace("host = ", "hots = ")).1.ends_with(unknown_key));
    let (_, said) = check(&bench, &example.replace("api is", "apo is"));
    let said = said.replace(&format!("{}/", bench.path("").display()).replace("//", "/"), "");
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(lines(&said), lines(warned));
    bench.write("smtp-password", "x");
    fs::set_permissions(bench.path("smtp-password"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(&check(&bench, &example).1, well);
    let shown = String::from_utf8(bench.run(&["config", "show"]).stdout).unwrap();
    let [excerpt] = &printed("show")[..] else { panic!() };
    let sections = |text: &str| text.split_once("\n\n").unwrap().1.to_owned();
    assert!(sections(&shown).starts_with(&sections(excerpt)), "{shown}");
}
