//! The exposition formats: Prometheus text 0.0.4 and `OpenMetrics` 1.0.

use std::borrow::Cow;

use thiserror::Error;

/// More labels than this on one series are refused.
const LABELS: usize = 128;

/// One line of an exposition.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The name, such as `http_requests_total`.
    pub name: &'a str,
    /// The labels, as they stand.
    pub labels: Vec<(&'a str, Cow<'a, str>)>,
    /// The value.
    pub value: f64,
}

impl Sample<'_> {
    /// The value of a label; one that is absent is empty.
    pub fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(label, _)| *label == name).map_or("", |(_, value)| value)
    }
}

/// A line that is none of the format.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}: {problem}")]
pub struct TextError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: &'static str,
}

/// Reads an exposition, giving each sample to `each`. `OpenMetrics` must end in `# EOF`; else it was cut off.
pub fn parse<'a>(
    text: &'a str,
    open_metrics: bool,
    mut each: impl FnMut(Sample<'a>),
) -> Result<(), TextError> {
    let mut ended = false;
    let mut count = 0;
    for (index, line) in text.lines().enumerate() {
        let fail = |problem| TextError { line: index + 1, problem };
        count = index + 1;
        if ended && !line.trim().is_empty() {
            return Err(fail("text behind # EOF"));
        }
        let line = line.trim_start_matches([' ', '\t']);
        if line.trim_end() == "# EOF" {
            ended = true;
        } else if !line.is_empty() && !line.starts_with('#') {
            each(sample(line).map_err(fail)?);
        }
    }
    if open_metrics && !ended {
        return Err(TextError { line: count, problem: "it ends without # EOF, so something is missing" });
    }
    Ok(())
}

fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let end = line.find(|c: char| !is_name(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("no name of a metric");
    }
    let rest = rest.trim_start_matches([' ', '\t']);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    // A timestamp and an exemplar may follow; neither matters here.
    let value = rest.split_ascii_whitespace().next().ok_or("no value")?;
    Ok(Sample { name, labels, value: number(value).ok_or("the value is not a number")? })
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
}

fn number(text: &str) -> Option<f64> {
    match text {
        "+Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        "NaN" => Some(f64::NAN),
        _ => text.parse().ok(),
    }
}

/// Labels and what follows the closing brace.
type Labels<'a> = (Vec<(&'a str, Cow<'a, str>)>, &'a str);

fn labels(mut rest: &str) -> Result<Labels<'_>, &'static str> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(behind) = rest.strip_prefix('}') {
            return Ok((labels, behind));
        }
        let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
        let (name, behind) = rest.split_at(end);
        if name.is_empty() {
            return Err("no name of a label");
        }
        let behind = behind.trim_start_matches([' ', '\t']).strip_prefix('=').ok_or("no = behind a label")?;
        let behind =
            behind.trim_start_matches([' ', '\t']).strip_prefix('"').ok_or("no quoted value of a label")?;
        let (value, behind) = quoted(behind)?;
        labels.push((name, value));
        if labels.len() > LABELS {
            return Err("more than 128 labels");
        }
        let behind = behind.trim_start_matches([' ', '\t']);
        rest = match behind.strip_prefix(',') {
            Some(behind) => behind,
            None if behind.starts_with('}') => behind,
            None => return Err("neither , nor } behind a label"),
        };
    }
}

/// Text up to the closing quote, and what follows it.
pub(super) fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let mut owned: Option<String> = None;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let value = owned.map_or(Cow::Borrowed(&text[..at]), Cow::Owned);
                return Ok((value, &text[at + 1..]));
            }
            '\\' => {
                let owned = owned.get_or_insert_with(|| text[..at].to_owned());
                match chars.next() {
                    Some((_, 'n')) => owned.push('\n'),
                    Some((_, c @ ('"' | '\\'))) => owned.push(c),
                    // Other escapes are kept as they are, as Prometheus does.
                    Some((_, c)) => owned.extend(['\\', c]),
                    None => break,
                }
            }
            c => {
                if let Some(owned) = &mut owned {
                    owned.push(c);
                }
            }
        }
    }
    Err("a quote that is not closed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(text: &str, open_metrics: bool) -> Result<Vec<Sample<'_>>, TextError> {
        let mut samples = Vec::new();
        parse(text, open_metrics, |sample| samples.push(sample)).map(|()| samples)
    }

    #[test]
    fn the_example_of_the_text_format_is_read() {
        let text = r#"
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\DIR\\FILE.TXT",error="Cannot find file:\n\"FILE.TXT\""} 1.458255915e9
metric_without_timestamp_and_labels 12.47
something_weird{problem="division by zero"} +Inf -3982045
http_request_duration_seconds_bucket{le="0.05", } 24054
	rpc_duration_seconds { quantile = "0.5" , } NaN
"#;
        let samples = all(text, false).unwrap();
        assert_eq!(samples.len(), 7);
        assert_eq!((samples[0].value, samples[0].label("code"), samples[0].label("x")), (1027.0, "200", ""));
        assert_eq!(samples[2].label("error"), "Cannot find file:\n\"FILE.TXT\"");
        assert_eq!(samples[2].label("path"), "C:\\DIR\\FILE.TXT");
        assert!(samples[4].value.is_infinite());
        assert_eq!(samples[5].label("le"), "0.05");
        assert!(samples[6].value.is_nan());
    }

    #[test]
    fn open_metrics_has_exemplars_and_an_end() {
        let text = "# TYPE foo histogram\nfoo_bucket{le=\"10.0\"} 17 # {trace_id=\"a}\\\"\"} 9.8 1520879607.789\n# EOF\n";
        let samples = all(text, true).unwrap();
        assert_eq!((samples[0].name, samples[0].value, samples[0].label("le")), ("foo_bucket", 17.0, "10.0"));
        let cut = all(text.trim_end_matches("# EOF\n"), true).unwrap_err();
        assert_eq!(cut.to_string(), "line 2: it ends without # EOF, so something is missing");
        assert_eq!(all("# EOF\nfoo 1\n", true).unwrap_err().line, 2);
    }

    #[test]
    fn lines_that_are_none_are_named() {
        for (line, problem) in [
            ("<html>", "no name of a metric"),
            ("9a 1", "no name of a metric"),
            ("a", "no value"),
            ("a x", "the value is not a number"),
            ("a{b} 1", "no = behind a label"),
            ("a{b=c} 1", "no quoted value of a label"),
            ("a{b=\"c} 1", "a quote that is not closed"),
            ("a{b=\"c\" d=\"e\"} 1", "neither , nor } behind a label"),
            ("a{=\"c\"} 1", "no name of a label"),
            ("a{b=\"c\\", "a quote that is not closed"),
            ("a{", "no name of a label"),
        ] {
            let text = format!("ok 1\n{line}\n");
            assert_eq!(all(&text, false), Err(TextError { line: 2, problem }), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[a-c{}=\",\\\\#é \t\n0-9.+INaEOF]{0,60}") {
            let _ = parse(&text, false, |_| {});
            let _ = parse(&text, true, |_| {});
        }
    }
}
