//! Reads a rule's text. Every error says where, what was expected there and what was found.

use std::error::Error;
use std::fmt;

use chrono::TimeDelta;
use reliab_common::exit::Level;
use reliab_common::fact::RAW_DAYS;
use reliab_common::units;

use super::condition::{CHECKS, Condition, Confirm, Figure, JOB, JOBS, Measure, OUTBOX, Side, Wanted, delta};
use super::token::{Kind, Token, tokens};
use crate::pattern::Pattern;

/// No rule is longer, in bytes.
const LONGEST: usize = 1000;
/// The time over which a figure is measured when its rule does not say.
const USUAL_TIME: TimeDelta = TimeDelta::minutes(5);
/// More results in a row than this are not waited for.
const MOST_RUNS: u32 = 1000;

/// A rule's text that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// The text.
    pub text: String,
    /// The character, from 0.
    pub at: usize,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, at, expected, found } = self;
        write!(f, "at character {}: expected {expected}, found {found}\n  {text}\n  {:at$}^", at + 1, "")
    }
}

impl Error for RuleError {}

/// Reads a rule's text, such as `probe api is critical for 2 runs`.
pub fn parse(text: &str) -> Result<Condition, RuleError> {
    // One line, so that the mark below it points at the right place.
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > LONGEST {
        let text = line.chars().take(40).collect();
        let (expected, found) = (format!("at most {LONGEST} bytes"), format!("{}", line.len()));
        return Err(RuleError { text, at: 0, expected, found });
    }
    let mut parser = Parser { text: &line, tokens: tokens(&line), next: 0 };
    let condition = parser.condition()?;
    parser.end()?;
    Ok(condition)
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token<'a>>,
    next: usize,
}

type Parsed<T> = Result<T, RuleError>;

impl<'a> Parser<'a> {
    fn peek(&self) -> &Token<'a> {
        // The last piece is the end, and is never passed.
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> Token<'a> {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn error(&self, token: &Token<'_>, expected: impl Into<String>) -> RuleError {
        RuleError {
            text: self.text.to_owned(),
            at: token.at,
            expected: expected.into(),
            found: token.shown(),
        }
    }

    fn fail<T>(&self, expected: impl Into<String>) -> Parsed<T> {
        Err(self.error(self.peek(), expected))
    }

    /// Whether the next piece is this word or sign, which is then taken.
    fn accept(&mut self, word: &str) -> bool {
        let token = self.peek();
        let found = matches!(token.kind, Kind::Word | Kind::Sign) && token.text == word;
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, word: &str) -> Parsed<()> {
        if self.accept(word) { Ok(()) } else { self.fail(format!("`{word}`")) }
    }

    fn end(&self) -> Parsed<()> {
        if self.peek().kind == Kind::End { Ok(()) } else { self.fail("the end of the rule") }
    }

    fn name(&mut self, what: &str) -> Parsed<Pattern> {
        match self.peek().kind {
            Kind::Word | Kind::Quoted if !self.peek().text.is_empty() => Ok(Pattern::new(self.take().text)),
            _ => self.fail(what),
        }
    }

    fn condition(&mut self) -> Parsed<Condition> {
        let first = self.take();
        let measured = matches!((self.peek().kind, self.peek().text), (Kind::Sign, "("));
        match first.text {
            "errors" if measured => self.figure(Measure::Errors),
            "p50" if measured => self.figure(Measure::Quantile(50)),
            "p95" if measured => self.figure(Measure::Quantile(95)),
            "p99" if measured => self.figure(Measure::Quantile(99)),
            "burn" if measured => Ok(Condition::Burn { slo: self.argument("the name of an objective")? }),
            "heartbeat" if first.kind == Kind::Word => self.missing(),
            source if first.kind == Kind::Word && is_source(source) => self.of_source(source),
            _ => Err(self.error(&first, expected_first())),
        }
    }

    fn of_source(&mut self, source: &str) -> Parsed<Condition> {
        let target = match self.peek().text {
            "is" | "older" if self.peek().kind == Kind::Word => None,
            _ => Some(self.name("a name, `is` or `older than`")?),
        };
        if self.accept("older") {
            if matches!(source, JOB | "*") {
                self.next -= 1;
                return self.fail("`is`: name one job before `older than`");
            }
            self.expect("than")?;
            return Ok(Condition::Older { source: source.to_owned(), target, limit: self.duration()? });
        }
        if source == OUTBOX {
            return self.fail("`older than`");
        }
        if !self.accept("is") {
            return self.fail("`is` or `older than`");
        }
        let is = self.wanted()?;
        let confirm = if self.accept("for") { self.confirm()? } else { Confirm::Runs(1) };
        let target = target.unwrap_or_else(Pattern::any);
        Ok(Condition::State { source: source.to_owned(), target, is, confirm })
    }

    fn wanted(&mut self) -> Parsed<Wanted> {
        if self.accept("not") {
            self.expect("ok")?;
            return Ok(Wanted::NotOk);
        }
        let only = self.accept("only");
        let wanted = match self.peek().text {
            "warning" if only => Wanted::Only(Level::Warning),
            "warning" => Wanted::Bad,
            "critical" | "failed" | "down" => Wanted::Only(Level::Critical),
            "unknown" => Wanted::Only(Level::Unknown),
            _ if only => return self.fail("`warning`, `critical` or `unknown`"),
            _ => {
                let words = "`warning`, `only warning`, `critical`, `failed`, `down`, `unknown` or `not ok`";
                return self.fail(words);
            }
        };
        self.next += 1;
        Ok(wanted)
    }

    /// `2 runs` or `5m`.
    fn confirm(&mut self) -> Parsed<Confirm> {
        let token = self.peek().clone();
        let behind = self.tokens.get(self.next + 1).map_or("", |token| token.text);
        if !matches!(behind, "run" | "runs") {
            return self
                .duration_or("a number of runs or a duration, such as `2 runs` or `5m`")
                .map(Confirm::For);
        }
        let runs = token.text.parse().ok().filter(|runs| (1..=MOST_RUNS).contains(runs));
        let runs = runs.ok_or_else(|| self.error(&token, format!("a number between 1 and {MOST_RUNS}")))?;
        self.next += 2;
        Ok(Confirm::Runs(runs))
    }

    fn duration(&mut self) -> Parsed<TimeDelta> {
        self.duration_or("a duration, such as `90s`, `5m`, `26h` or `7d`")
    }

    /// A duration in one word or, as in `5 min`, in two.
    fn duration_or(&mut self, expected: &str) -> Parsed<TimeDelta> {
        let token = self.take();
        let mut text = token.text.to_owned();
        if !text.is_empty() && text.chars().all(|c| c.is_ascii_digit()) && self.peek().kind == Kind::Word {
            text.push_str(self.take().text);
        }
        match units::parse_duration(&text) {
            Ok(duration) if token.kind == Kind::Word && !duration.is_zero() => Ok(delta(duration)),
            _ => Err(self.error(&token, expected)),
        }
    }

    /// `nightly missing 30m`: nothing else is known of what reports in.
    fn missing(&mut self) -> Parsed<Condition> {
        let name = self.name("the name of a heartbeat")?;
        if !self.accept("missing") {
            return self.fail("`missing`");
        }
        // `missing for 30m` reads as well.
        self.accept("for");
        Ok(Condition::Missing { name, limit: self.duration()? })
    }

    fn argument(&mut self, what: &str) -> Parsed<Pattern> {
        self.expect("(")?;
        let name = self.name(what)?;
        self.expect(")")?;
        Ok(name)
    }

    fn figure(&mut self, what: Measure) -> Parsed<Condition> {
        let of = self.argument("the name of a service or probe")?;
        let side = self.side("`>` or `<`")?;
        let limit = self.limit(what)?;
        let over = if self.accept("for") { self.measured()? } else { USUAL_TIME };
        let until = if self.accept("until") { Some(self.until(what, side, limit)?) } else { None };
        Ok(Condition::Figure(Figure { what, of, side, limit, over, until }))
    }

    /// The time over which a figure is measured: values are kept one by one for no longer.
    fn measured(&mut self) -> Parsed<TimeDelta> {
        let token = self.peek().clone();
        let over = self.duration()?;
        if over > TimeDelta::days(RAW_DAYS) {
            return Err(
                self.error(&token, format!("at most `{RAW_DAYS}d`, as values are kept for no longer"))
            );
        }
        Ok(over)
    }

    fn side(&mut self, expected: &str) -> Parsed<Side> {
        if self.accept(">") {
            Ok(Side::Above)
        } else if self.accept("<") {
            Ok(Side::Below)
        } else {
            self.fail(expected)
        }
    }

    fn limit(&mut self, what: Measure) -> Parsed<f64> {
        match what {
            Measure::Errors => self.percent(),
            Measure::Quantile(_) => self.duration().map(TimeDelta::as_seconds_f64),
        }
    }

    fn percent(&mut self) -> Parsed<f64> {
        let token = self.take();
        let share = units::parse_percent(token.text).ok().filter(|_| token.kind == Kind::Word);
        let share =
            share.ok_or_else(|| self.error(&token, "a percentage between 0% and 100%, such as `5%`"))?;
        self.accept("%");
        Ok(share.fraction())
    }

    /// The limit on the good side, which must not be beyond the bad one.
    fn until(&mut self, what: Measure, side: Side, limit: f64) -> Parsed<f64> {
        let sign = if side == Side::Above { "<" } else { ">" };
        self.expect(sign)?;
        let token = self.peek().clone();
        let until = self.limit(what)?;
        if side.holds(until, limit) {
            let place = if side == Side::Above { "at most" } else { "at least" };
            return Err(self.error(&token, format!("a value {place} the limit")));
        }
        Ok(until)
    }
}

fn is_source(word: &str) -> bool {
    CHECKS.contains(&word) || JOBS.contains(&word) || matches!(word, JOB | OUTBOX | "*")
}

fn expected_first() -> String {
    let sources = CHECKS.iter().chain(JOBS).chain(&[JOB, OUTBOX]);
    let sources: Vec<_> = sources.map(|word| format!("`{word}`")).collect();
    format!("`errors(…)`, `p95(…)`, `burn(…)` or one of {}", sources.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(source: &str, target: &str, is: Wanted, confirm: Confirm) -> Condition {
        Condition::State { source: source.into(), target: Pattern::new(target), is, confirm }
    }

    fn figure(what: Measure, of: &str, limit: f64, minutes: i64, until: Option<f64>) -> Condition {
        let (of, over, side) = (Pattern::new(of), TimeDelta::minutes(minutes), Side::Above);
        Condition::Figure(Figure { what, of, side, limit, over, until })
    }

    fn older(source: &str, target: Option<&str>, limit: TimeDelta) -> Condition {
        Condition::Older { source: source.into(), target: target.map(Pattern::new), limit }
    }

    #[test]
    fn rules_read_as_they_are_said() {
        let check = |text, expected| assert_eq!(parse(text), Ok(expected), "{text}");
        let critical = Wanted::Only(Level::Critical);
        check("probe api is critical for 2 runs", state("probe", "api", critical, Confirm::Runs(2)));
        check("disk / is warning", state("disk", "/", Wanted::Bad, Confirm::Runs(1)));
        check("backup older than 26h", older("backup", None, TimeDelta::hours(26)));
        let five = TimeDelta::minutes(5);
        check("errors(checkout) > 5% for 5m", figure(Measure::Errors, "checkout", 0.05, 5, None));
        check("p95(checkout) > 200ms for 10m", figure(Measure::Quantile(95), "checkout", 0.2, 10, None));
        check("burn(checkout)", Condition::Burn { slo: Pattern::new("checkout") });
        let missing = Condition::Missing { name: Pattern::new("nightly"), limit: TimeDelta::minutes(30) };
        check("heartbeat nightly missing 30m", missing.clone());
        check("heartbeat nightly missing for 30 min", missing);
        check("probe * is critical", state("probe", "*", critical, Confirm::Runs(1)));
        check("probe * is only warning for 5 min", {
            state("probe", "*", Wanted::Only(Level::Warning), Confirm::For(five))
        });
        check("job * is failed", state("job", "*", critical, Confirm::Runs(1)));
        check("backup is not ok", state("backup", "*", Wanted::NotOk, Confirm::Runs(1)));
        check("probe \"my api\" is down", state("probe", "my api", critical, Confirm::Runs(1)));
        check("probe \"is\" older than 5m", older("probe", Some("is"), five));
        check("disk /srv/* older than 1h30m", older("disk", Some("/srv/*"), TimeDelta::minutes(90)));
        check("outbox older than 15m", older("outbox", None, TimeDelta::minutes(15)));
        check("errors( * )>5 %", figure(Measure::Errors, "*", 0.05, 5, None));
        check("errors(a) > 5% for 5m until < 3%", figure(Measure::Errors, "a", 0.05, 5, Some(0.03)));
        check("\tburn(checkout)\n", Condition::Burn { slo: Pattern::new("checkout") });
    }

    #[test]
    fn errors_say_where_what_and_what_was_expected() {
        let check = |text: &str, at, expected: &str, found: &str| {
            let error = parse(text).unwrap_err();
            assert_eq!((error.at, error.expected.as_str(), error.found.as_str()), (at, expected, found));
        };
        check("prob api is critical", 0, &expected_first(), "`prob`");
        check("", 0, &expected_first(), "the end");
        check("errors > 5%", 0, &expected_first(), "`errors`");
        let words = "`warning`, `only warning`, `critical`, `failed`, `down`, `unknown` or `not ok`";
        check("probe api is broken", 13, words, "`broken`");
        check("probe api is", 12, words, "the end");
        check("probe api critical", 10, "`is` or `older than`", "`critical`");
        check("probe", 5, "a name, `is` or `older than`", "the end");
        check(
            "probe api is critical for",
            25,
            "a number of runs or a duration, such as `2 runs` or `5m`",
            "the end",
        );
        check("probe api is critical for 0 runs", 26, "a number between 1 and 1000", "`0`");
        check("probe api is critical for 2 runs now", 33, "the end of the rule", "`now`");
        check("probe é is critical twice", 20, "the end of the rule", "`twice`");
        check("backup older then 26h", 13, "`than`", "`then`");
        check("backup older than 26", 18, "a duration, such as `90s`, `5m`, `26h` or `7d`", "`26`");
        check("job older than 5m", 4, "`is`: name one job before `older than`", "`older`");
        check("outbox is critical", 7, "`older than`", "`is`");
        check("errors(a) > 500%", 12, "a percentage between 0% and 100%, such as `5%`", "`500%`");
        check("errors() > 5%", 7, "the name of a service or probe", "`)`");
        check("errors(a = 5%", 9, "`)`", "`=`");
        check("errors(a) is 5%", 10, "`>` or `<`", "`is`");
        check("errors(a) > 5% until < 7%", 23, "a value at most the limit", "`7%`");
        check("errors(a) > 5% until > 3%", 21, "`<`", "`>`");
        let kept = "at most `14d`, as values are kept for no longer";
        check("errors(a) > 5% for 15d", 19, kept, "`15d`");
        check("p95(a) > 5s for 337 h", 16, kept, "`337`");
        check("p95(a) > 5%", 9, "a duration, such as `90s`, `5m`, `26h` or `7d`", "`5%`");
        check("heartbeat a is critical", 12, "`missing`", "`is`");
        check("heartbeat a absent", 12, "`missing`", "`absent`");
        check("probe \"a is critical", 6, "a name, `is` or `older than`", "a quote that is not closed");
        check(&"x".repeat(1001), 0, "at most 1000 bytes", "1001");
    }

    #[test]
    fn an_error_is_shown_with_a_mark_below_the_place() {
        let text = parse("probe api\tis broken").unwrap_err().to_string();
        let expected = "at character 14: expected `warning`, `only warning`, `critical`, `failed`, `down`, `unknown` \
                        or `not ok`, found `broken`\n  probe api is broken\n               ^";
        assert_eq!(text, expected);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(\\PC|\n){0,40}") {
            let _ = parse(&text);
        }

        #[test]
        fn no_row_of_words_makes_the_parser_panic(words in prop::collection::vec(prop::sample::select(vec![
            "probe", "api", "is", "critical", "for", "2", "runs", "5m", "older", "than", "errors", "(", ")", ">", "<", "5%",
            "until", "heartbeat", "missing", "burn", "\"", "\"a b\"", "*", "not", "ok", "only", "warning", "min", "p95", "job",
        ]), 0..12)) {
            let text = words.join(" ");
            if let Err(error) = parse(&text) {
                prop_assert!(error.at <= text.chars().count());
            }
        }
    }
}
