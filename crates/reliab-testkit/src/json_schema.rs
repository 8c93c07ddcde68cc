//! A judge of JSON documents that knows nothing of reliab: Python's jsonschema.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

const JUDGE: &str = "\
import sys, json, jsonschema
given = json.load(sys.stdin)
judges = {}
for name, schema in given['schemas'].items():
    jsonschema.Draft202012Validator.check_schema(schema)
    judges[name] = jsonschema.Draft202012Validator(schema)
json.dump([['%s at %s' % (error.message[:300], list(error.absolute_path)) for error in judges[name].iter_errors(value)]
           for name, value in given['values']], sys.stdout)
";

/// Debian's Python, which has this module.
///
/// # Panics
/// Where the module is missing; names the package to install.
pub fn python(module: &str, package: &str) -> Command {
    let python = "/usr/bin/python3";
    let probe = Command::new(python).args(["-c", &format!("import {module}")]).stderr(Stdio::null()).status();
    assert!(probe.is_ok_and(|status| status.success()), "install the Debian package {package}");
    Command::new(python)
}

/// What is wrong with each value under the schema it names, by JSON Schema 2020-12; a schema that is none is an error.
pub fn violations(
    schemas: &BTreeMap<String, Value>,
    values: &[(String, Value)],
) -> io::Result<Vec<Vec<String>>> {
    let mut child = python("jsonschema", "python3-jsonschema")
        .args(["-c", JUDGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let given = serde_json::to_vec(&json!({ "schemas": schemas, "values": values }))?;
    child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?.write_all(&given)?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_judge_says_no_to_a_value_and_to_a_schema_that_is_none() {
        let schemas = |kind: &str| BTreeMap::from([("s".to_owned(), json!({ "type": kind }))]);
        let values = [("s".to_owned(), json!(5)), ("s".to_owned(), json!("five"))];
        let said = violations(&schemas("integer"), &values).unwrap();
        assert_eq!((said[0].len(), said[1].len()), (0, 1), "{said:?}");
        assert!(violations(&schemas("whole"), &values).is_err());
    }
}
