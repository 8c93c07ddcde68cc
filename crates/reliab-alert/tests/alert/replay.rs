//! Evaluation as a function: live each minute, rarely, or over stored history, it comes to the same.

use crate::history::{History, config, minute, start};
use proptest::prelude::*;
use reliab_alert::incident::Incident;
use reliab_alert::simulate::simulate;
use reliab_alert::store;
use reliab_common::config::{Config, Slo};
use reliab_common::exit::Level;
use reliab_common::fact;

/// Something that a tool records.
#[derive(Clone, Debug)]
enum Event {
    Check(&'static str, &'static str, Level),
    Scrape(u8, u8),
    Beat,
    Run(bool),
}

fn event() -> impl Strategy<Value = Event> {
    let target =
        prop::sample::select(vec![("probe", "a"), ("probe", "b"), ("probe", "gateway"), ("disk", "/")]);
    let level = prop::sample::select(vec![Level::Ok, Level::Critical, Level::Warning, Level::Unknown]);
    prop_oneof![
        6 => (target, level).prop_map(|((source, target), level)| Event::Check(source, target, level)),
        3 => (0..20u8, 0..20u8).prop_map(|(requests, errors)| Event::Scrape(requests, errors)),
        1 => Just(Event::Beat),
        1 => any::<bool>().prop_map(Event::Run),
    ]
}

/// For each minute what is recorded in it; runs of the same level make incidents that last.
fn events() -> impl Strategy<Value = Vec<Vec<Event>>> {
    let lasting = (prop::collection::vec(event(), 0..4), 1..8usize);
    prop::collection::vec(lasting, 5..25)
        .prop_map(|parts| parts.into_iter().flat_map(|(events, times)| vec![events; times]).collect())
}

fn rules() -> Config {
    let mut config = config(&[
        "probe * is critical for 2 runs",
        "probe * is only warning for 3m",
        "disk / is warning",
        "errors(checkout) > 20% for 6m until < 10%",
        "heartbeat nightly missing 15m",
        "job * is failed",
        "backup older than 20m",
        "burn(checkout)",
    ]);
    config.slo = vec![Slo { name: "checkout".into(), service: None, objective: 95.0, window: None }];
    config.rule[0].because = vec!["probe gateway".into()];
    config.alert.remind = Some(std::time::Duration::from_secs(600));
    config.alert.flap_budget = Some(2);
    config
}

fn record(history: &History, at: i64, events: &[Event]) {
    for event in events {
        let at = minute(at);
        match event {
            Event::Check(source, target, level) => history.check(at, source, target, *level),
            Event::Scrape(requests, errors) => {
                let (requests, errors) = (f64::from(*requests), f64::from(*errors.min(requests)));
                history.sample(at, "service", "checkout", "requests", requests);
                history.sample(at, "service", "checkout", "errors", errors);
            }
            Event::Beat => fact::beat(&history.state, "nightly", at).unwrap(),
            Event::Run(true) => history.run(at, "backup", 0, "done", Level::Ok),
            Event::Run(false) => history.run(at, "backup", 1, "failed: no space", Level::Critical),
        }
    }
}

fn stored(history: &History) -> Vec<Incident> {
    store::incidents(&history.state, Some(start())).unwrap()
}

/// What an incident was, apart from when and how it was told.
fn course(incident: &Incident) -> impl PartialEq + std::fmt::Debug + use<> {
    let Incident { rule, subject, life, began, opened, closed, memory, .. } = incident.clone();
    (rule, subject, life, began, opened, closed, memory.worst, memory.flaps, memory.changes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_simulation_tells_what_live_evaluation_told(minutes in events()) {
        let history = History::new(&rules());
        history.evaluate(start());
        let mut last = 0;
        for (at, events) in (1..).zip(&minutes) {
            record(&history, at, events);
            history.evaluate(minute(at));
            last = at;
        }
        let simulated = simulate(&history.state, &history.rules, "web1", start(), minute(last)).unwrap();
        prop_assert_eq!(simulated.incidents, stored(&history));
        let messages: Vec<_> =
            simulated.messages.into_iter().map(|told| (told.channel, told.message)).collect();
        prop_assert_eq!(messages, history.messages());
    }

    #[test]
    fn evaluating_rarely_finds_the_incidents_that_evaluating_each_minute_finds(
        minutes in events(), pauses in prop::collection::vec(1..40i64, 100),
    ) {
        let (often, rarely) = (History::new(&rules()), History::new(&rules()));
        often.evaluate(start());
        rarely.evaluate(start());
        let (mut pauses, mut due) = (pauses.into_iter(), 0);
        let mut last = 0;
        for (at, events) in (1..).zip(&minutes) {
            record(&often, at, events);
            record(&rarely, at, events);
            often.evaluate(minute(at));
            if at >= due {
                rarely.evaluate(minute(at));
                due = at + pauses.next().unwrap();
            }
            last = at;
        }
        often.evaluate(minute(last));
        rarely.evaluate(minute(last));
        let courses = |history: &History| stored(history).iter().map(course).collect::<Vec<_>>();
        prop_assert_eq!(courses(&often), courses(&rarely));
        // Whatever opened was told, by either.
        for history in [&often, &rarely] {
            every_open_incident_was_told(history)?;
        }
    }
}

/// Each incident that was confirmed is in a message, unless another one explains it.
fn every_open_incident_was_told(history: &History) -> Result<(), TestCaseError> {
    let told: Vec<i64> = history
        .messages()
        .iter()
        .flat_map(|(_, message)| message.incidents.iter().map(|incident| incident.id))
        .collect();
    for incident in stored(history).iter().filter(|incident| incident.opened.is_some()) {
        let excused = incident.memory.log.iter().any(|note| note.what.starts_with("not told"));
        let waits = incident.memory.told.is_none() && !incident.memory.done;
        prop_assert!(told.contains(&incident.id) || excused || waits, "{incident:?}");
    }
    Ok(())
}
