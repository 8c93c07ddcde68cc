//! The outbox: nothing is lost, nothing overtakes, nothing loops.

use std::time::{Duration, Instant};

use crate::receivers::{self, Answer, Bench, Receiver, incident, message, refusing_port};
use chrono::TimeDelta;
use reliab_alert::deliver::Deliverer;
use reliab_alert::message::Kind;
use reliab_alert::outbox::Point;
use reliab_common::clock::Clock as _;
use reliab_common::exit::Level;
use reliab_common::lock::JobLock;
use reliab_common::record::Recorder;
use reliab_common::session::Job;
use reliab_common::signal::Stop;
use reliab_common::ui::Ui;
use rusqlite::Connection;

fn webhook(name: &str, url: &str) -> String {
    format!("[channel.{name}]\ntype = \"webhook\"\nurl = \"{url}/{name}\"\n")
}

fn opened() -> reliab_alert::message::Message {
    message(Kind::Opened, vec![incident(7, "probe api")])
}

#[test]
fn messages_of_a_channel_arrive_once_and_in_order() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&(webhook("a", &receiver.url()) + &webhook("b", &receiver.url())));
    let keys: Vec<String> = (0..20).map(|number| format!("k{number}")).collect();
    for key in &keys {
        bench.owe(if key.ends_with(['0', '5']) { "b" } else { "a" }, key, &opened());
    }
    let (delivered, told) = bench.deliver();
    assert_eq!((delivered.delivered, delivered.failed, delivered.refused), (20, 0, 0));
    assert_eq!(told, "");
    for channel in ["/a", "/b"] {
        let got: Vec<String> =
            receiver.got().iter().filter(|got| got.path == channel).map(receivers::Got::key).collect();
        let expected: Vec<String> =
            keys.iter().filter(|key| key.ends_with(['0', '5']) == (channel == "/b")).cloned().collect();
        assert_eq!(got, expected);
    }
    assert_eq!(bench.deliver().0.delivered, 0);
    assert_eq!(receiver.got().len(), 20);
}

#[test]
fn a_passing_failure_holds_the_later_ones_back_and_backs_off() {
    let receiver =
        Receiver::start(|number, got| if number < 3 { Answer::status(503) } else { Answer::yes(&got.path) });
    let bench = Bench::new(&webhook("a", &receiver.url()));
    for key in ["first", "second"] {
        bench.owe("a", key, &opened());
    }
    let mut waits = Vec::new();
    for _ in 0..3 {
        let (delivered, told) = bench.deliver();
        assert_eq!((delivered.delivered, delivered.failed), (0, 1));
        assert_eq!(
            told,
            "warning: channel a: answered 503: {\"message\":\"as told\"}; it is tried again (message first)\n"
        );
        // Before it is due nothing is sent.
        assert_eq!(bench.deliver().0.failed, 0);
        waits.push(bench.wait());
        bench.clock.advance(bench.wait());
    }
    assert!(waits[0] >= TimeDelta::seconds(1) && waits[1] > waits[0] && waits[2] > waits[1], "{waits:?}");
    assert_eq!(bench.deliver().0.delivered, 2);
    assert_eq!(receiver.keys(), ["first", "first", "first", "first", "second"]);
    let outcomes: Vec<_> = bench.attempts().into_iter().map(|attempt| attempt.0).collect();
    assert_eq!(outcomes, ["passing", "passing", "passing", "delivered", "delivered"]);
}

#[test]
fn a_short_wait_is_waited_for_within_the_run() {
    let receiver =
        Receiver::start(|number, got| if number == 0 { Answer::status(500) } else { Answer::yes(&got.path) });
    let mut bench = Bench::new(&webhook("a", &receiver.url()));
    bench.limits.retry_within = Duration::from_secs(5);
    bench.owe("a", "k", &opened());
    let clock = reliab_common::clock::SystemClock;
    let deliverer = Deliverer { clock: &clock, ..bench.deliverer(&bench.state, &|_| {}) };
    let delivered = deliverer.deliver(&mut Ui::captured()).unwrap();
    assert_eq!((delivered.delivered, delivered.failed), (1, 1));
    assert_eq!(receiver.keys(), ["k", "k"]);
}

#[test]
fn what_a_server_asks_for_is_kept_up_to_an_hour() {
    let check = |asked: &str, seconds: std::ops::RangeInclusive<i64>| {
        let value = asked.to_owned();
        let receiver = Receiver::start(move |_, _| {
            Answer::Say(429, vec![("retry-after", value.clone())], String::new())
        });
        let bench = Bench::new(&webhook("a", &receiver.url()));
        bench.owe("a", "k", &opened());
        bench.deliver();
        assert!(seconds.contains(&bench.wait().num_seconds()), "{asked}: {}", bench.wait());
    };
    check("90", 90..=90);
    check("86400", 3600..=3600);
    check("never", 1..=1);
    check("0", 1..=1);
}

#[test]
fn what_is_refused_for_good_makes_way_and_is_told_by_another_channel() {
    let strict = Receiver::start(|_, got| {
        if got.key() == "bad" {
            Answer::Say(400, Vec::new(), "no such field".into())
        } else {
            Answer::yes(&got.path)
        }
    });
    let other = Receiver::willing();
    let bench = Bench::new(&(webhook("a", &strict.url()) + &webhook("b", &other.url())));
    bench
        .state
        .write(|db| {
            db.execute_batch(
                "INSERT INTO incident VALUES (7, 'r', 's', 'open', 2, '', 0, 0, NULL, NULL, NULL, '{}')",
            )
        })
        .unwrap();
    for key in ["bad", "good"] {
        bench.owe("a", key, &opened());
    }
    bench.state.write(|db| db.execute("INSERT INTO notification_incident VALUES (1, 7)", [])).unwrap();
    let (delivered, told) = bench.deliver();
    assert_eq!((delivered.delivered, delivered.refused), (2, 1));
    assert_eq!(strict.keys(), ["bad", "good"]);
    assert_eq!(other.keys(), ["undeliverable:b:bad"]);
    let report = other.got()[0].json();
    assert_eq!(report["kind"], "undeliverable");
    assert_eq!(report["incidents"][0]["subject"], "probe api");
    let expected = "channel a refused a message: answered 400: no such field \
                    (it was: [web1] CRITICAL probe api: connection refused)";
    assert_eq!(report["note"], expected);
    assert!(told.contains("this is told by channel b (message bad)"), "{told}");
    let linked: i64 = bench
        .state
        .with(|db| {
            db.query_row("SELECT count(*) FROM notification_incident WHERE incident = 7", [], |row| {
                row.get(0)
            })
        })
        .unwrap();
    assert_eq!(linked, 2);
    assert_eq!(bench.states(), ["refused", "delivered", "delivered"]);
    assert_eq!(delivered.facts.checks[0].level, Level::Ok);
}

#[test]
fn channels_that_all_refuse_do_not_report_on_each_other_for_ever() {
    let receiver = Receiver::start(|_, _| Answer::status(422));
    let config = ["a", "b", "c"].map(|name| webhook(name, &receiver.url())).concat();
    let bench = Bench::new(&(config + "[alert]\nchannels = [\"c\"]\n"));
    bench.owe("a", "k", &opened());
    let (delivered, told) = bench.deliver();
    assert_eq!(delivered.refused, 3);
    // The channels for all rules come first.
    assert_eq!(receiver.keys(), ["k", "undeliverable:c:k", "undeliverable:b:k"]);
    assert_eq!(bench.states(), ["refused", "refused", "refused"]);
    assert!(told.contains("error: channel b: answered 422"), "{told}");
    assert!(told.contains("there is no other channel to tell of it (message undeliverable:b:k)"), "{told}");
    let check = &delivered.facts.checks[0];
    assert_eq!(
        (check.level, check.summary.as_str()),
        (Level::Critical, "1 message refused that no other channel tells of")
    );
}

#[test]
fn a_wrong_key_with_nobody_to_tell_of_it_waits_to_be_mended() {
    let receiver = Receiver::start(|_, _| Answer::status(401));
    let mut bench = Bench::new(&webhook("a", &receiver.url()));
    bench.owe("a", "k", &opened());
    assert_eq!(bench.deliver().0.failed, 1);
    assert_eq!(bench.states(), ["owed"]);
    let willing = Receiver::willing();
    bench.configure(&webhook("a", &willing.url()));
    bench.clock.advance(bench.wait());
    assert_eq!(bench.deliver().0.delivered, 1);
    assert_eq!(willing.keys(), ["k"]);
}

#[test]
fn a_channel_that_is_gone_from_the_configuration_is_told_by_another() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&webhook("b", &receiver.url()));
    bench.owe("renamed", "k", &opened());
    assert_eq!(bench.deliver().0.refused, 1);
    assert_eq!(receiver.keys(), ["undeliverable:b:k"]);
    let note = receiver.got()[0].json()["note"].as_str().unwrap().to_owned();
    assert!(
        note.starts_with("channel renamed refused a message: no channel of this name is configured"),
        "{note}"
    );
}

#[test]
fn what_cannot_be_read_back_is_told_and_does_not_stop_the_rest() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&(webhook("a", &receiver.url()) + &webhook("b", &receiver.url())));
    bench.owe("a", "k", &opened());
    bench.state.write(|db| db.execute("UPDATE notification SET message = '{\"kind\":\"new\"}'", [])).unwrap();
    bench.owe("a", "next", &opened());
    assert_eq!(bench.deliver().0.refused, 1);
    let mut keys = receiver.keys();
    keys.sort();
    assert_eq!(keys, ["next", "undeliverable:b:k"]);
}

#[test]
fn late_messages_say_so() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&webhook("a", &receiver.url()));
    bench.owe("a", "k", &opened());
    bench.clock.advance(TimeDelta::minutes(42));
    bench.deliver();
    let document = receiver.got()[0].json();
    assert_eq!(document["late"], "delivered 42 min 00 s late");
    assert!(document["text"].as_str().unwrap().starts_with("delivered 42 min 00 s late\nCRITICAL probe api"));
}

#[test]
fn a_server_that_hangs_costs_other_channels_nothing() {
    let (stuck, quick) = (Receiver::start(|_, _| Answer::Hang), Receiver::willing());
    let mut bench = Bench::new(&(webhook("a", &stuck.url()) + &webhook("b", &quick.url())));
    bench.limits.attempt = Duration::from_secs(2);
    for (channel, key) in [("a", "stuck"), ("a", "behind"), ("b", "one"), ("b", "two")] {
        bench.owe(channel, key, &opened());
    }
    let started = Instant::now();
    let (delivered, told) = bench.deliver();
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!((delivered.delivered, delivered.failed), (2, 1));
    assert_eq!(quick.keys(), ["one", "two"]);
    assert_eq!(stuck.keys(), ["stuck"]);
    assert!(told.contains("channel a: no answer within 2.0 s"), "{told}");
}

#[test]
fn the_deadline_of_the_run_ends_an_attempt() {
    let stuck = Receiver::start(|_, _| Answer::Hang);
    let mut bench = Bench::new(&webhook("a", &stuck.url()));
    bench.limits.run = Duration::from_secs(1);
    bench.owe("a", "k", &opened());
    let started = Instant::now();
    assert_eq!(bench.deliver().0.failed, 1);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[test]
fn a_message_that_another_deliverer_is_sending_is_left_to_it() {
    let receiver =
        Receiver::start(|number, got| if number == 0 { Answer::Hang } else { Answer::yes(&got.path) });
    let mut bench = Bench::new(&webhook("a", &receiver.url()));
    bench.limits.attempt = Duration::from_secs(2);
    bench.owe("a", "k", &opened());
    let elsewhere = bench.elsewhere();
    let first = std::thread::spawn(elsewhere);
    receivers::wait_until("the first attempt", || receiver.got().len() == 1);
    let second = bench.deliver().0;
    assert_eq!((second.delivered, second.failed), (0, 0));
    assert_eq!(first.join().unwrap().failed, 1);
    assert_eq!(receiver.keys(), ["k"]);
}

#[test]
fn while_another_process_delivers_a_run_leaves_it_to_that() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&webhook("a", &receiver.url()));
    bench.owe("a", "k", &opened());
    let run = || {
        let session = bench.session(false);
        let (recorder, trouble) = Recorder::open(&bench.state_dir());
        assert!(trouble.is_none());
        let job = Job { session: &session, recorder: &recorder, stop: Stop::default() };
        let mut ui = Ui::captured();
        let delivered = reliab_alert::deliver::run(&job, &mut ui).unwrap();
        assert_eq!(ui.captured_output(), (String::new(), String::new()));
        delivered
    };
    let lock = JobLock::acquire(&bench.state_dir(), "deliver", &bench.clock).unwrap();
    let delivered = run();
    assert!(delivered.elsewhere && delivered.delivered == 0 && receiver.got().is_empty());
    assert_eq!(delivered.facts.samples[0].value.to_bits(), 1f64.to_bits());
    drop(lock);
    let delivered = run();
    assert!(!delivered.elsewhere && delivered.delivered == 1);
    assert_eq!(receiver.keys(), ["k"]);
}

#[test]
fn a_run_that_is_asked_to_stop_begins_nothing_more() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&webhook("a", &receiver.url()));
    for key in ["k1", "k2", "k3"] {
        bench.owe("a", key, &opened());
    }
    let deliverer = bench.deliverer(&bench.state, &|_| {});
    let stop = deliverer.stop.clone();
    let reached = |point| {
        if point == Point::Begun {
            stop.request();
        }
    };
    let deliverer = Deliverer { reached: &reached, ..deliverer };
    assert_eq!(deliverer.deliver(&mut Ui::captured()).unwrap().delivered, 1);
    assert_eq!(bench.states(), ["delivered", "owed", "owed"]);
}

#[test]
fn the_outbox_tells_its_length_and_age() {
    let bench = Bench::new(&webhook("a", &format!("http://127.0.0.1:{}", refusing_port())));
    bench.owe("a", "k1", &opened());
    bench.clock.advance(TimeDelta::minutes(4));
    bench.owe("a", "k2", &opened());
    let check = |minutes: i64, level, summary: &str| {
        bench.clock.advance(TimeDelta::minutes(minutes));
        let facts = bench.deliver().0.facts;
        let figures: Vec<_> =
            facts.samples.iter().map(|sample| (sample.figure.as_str(), sample.value)).collect();
        let age = (bench.clock.now() - receivers::noon()).as_seconds_f64();
        assert_eq!(figures, [("queue", 2.0), ("oldest_seconds", age)]);
        let found = &facts.checks[0];
        assert_eq!((found.source.as_str(), found.target.as_str()), ("alert", "outbox"));
        assert_eq!((found.level, found.summary.as_str()), (level, summary));
        assert!(
            found.detail["channels"]["a"]["error"].as_str().unwrap().contains("Connection refused"),
            "{found:?}"
        );
    };
    check(0, Level::Ok, "2 messages owed, the oldest for 4 min 00 s");
    check(6, Level::Warning, "2 messages owed, the oldest for 10 min 00 s");
    check(51, Level::Critical, "2 messages owed, the oldest for 1 h 01 min");
}

#[test]
fn on_a_full_disk_messages_are_sent_all_the_same_and_again_when_there_is_room() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&webhook("a", &receiver.url()));
    bench.owe("a", "k1", &opened());
    bench.owe("a", "k2", &opened());
    // As full as a disk can be: not one more page, and none that is free.
    let pages: i64 =
        bench.state.with(|db| db.pragma_query_value(None, "page_count", |row| row.get(0))).unwrap();
    bench.state.with(|db| db.pragma_update(None, "max_page_count", pages)).unwrap();
    bench
        .state
        .with(|db| {
            db.execute_batch(
                "CREATE TEMP TRIGGER full BEFORE INSERT ON main.attempt
        BEGIN INSERT INTO main.cursor VALUES (hex(randomblob(8)), hex(zeroblob(200000))); END",
            )
        })
        .unwrap();
    let (delivered, told) = bench.deliver();
    assert_eq!((delivered.delivered, delivered.unrecorded), (2, 2));
    assert!(
        told.contains("message k1 is sent without being written down: cannot use the state file"),
        "{told}"
    );
    assert!(told.contains("database or disk is full"), "{told}");
    assert_eq!(receiver.keys(), ["k1", "k2"]);
    assert_eq!(bench.states(), ["owed", "owed"]);
    // A minute later nobody is told a second time.
    bench.clock.advance(TimeDelta::minutes(1));
    assert!(bench.try_deliver().0.is_err());
    assert_eq!(receiver.keys(), ["k1", "k2"]);
    bench.state.with(|db| db.execute_batch("DROP TRIGGER full")).unwrap();
    assert_eq!(bench.deliver().0.delivered, 2);
    assert_eq!(receiver.keys(), ["k1", "k2", "k1", "k2"]);
    assert_eq!(bench.states(), ["delivered", "delivered"]);
}

#[test]
fn a_state_file_that_another_process_has_locked_does_not_keep_a_message_back() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&webhook("a", &receiver.url()));
    bench.owe("a", "k", &opened());
    bench.state.with(|db| db.busy_timeout(Duration::from_millis(50))).unwrap();
    let other = Connection::open(bench.state.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let (delivered, told) = bench.deliver();
    assert_eq!((delivered.delivered, delivered.unrecorded), (1, 1));
    assert!(told.contains("database is locked"), "{told}");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(bench.deliver().0.delivered, 1);
    assert_eq!(receiver.keys(), ["k", "k"]);
    assert_eq!(bench.states(), ["delivered"]);
}

#[test]
fn messages_that_ended_long_ago_are_forgotten() {
    let receiver = Receiver::willing();
    let bench = Bench::new(&webhook("a", &receiver.url()));
    bench.owe("a", "old", &opened());
    bench.deliver();
    bench.clock.advance(TimeDelta::days(399));
    bench.owe("a", "new", &opened());
    bench.deliver();
    assert_eq!(bench.rows().len(), 2);
    bench.clock.advance(TimeDelta::days(2));
    bench.deliver();
    let keys: Vec<_> = bench.rows().into_iter().map(|row| row.2).collect();
    assert_eq!((keys, bench.attempts().len()), (vec!["new".to_owned()], 1));
}

#[test]
fn what_a_clock_that_was_ahead_has_put_off_is_delivered_and_counted() {
    let receiver =
        Receiver::start(|number, got| if number < 2 { Answer::status(503) } else { Answer::yes(&got.path) });
    let bench = Bench::new(&webhook("a", &receiver.url()));
    bench.clock.advance(TimeDelta::days(30));
    bench.owe("a", "k", &opened());
    bench.deliver();
    bench.clock.set(receivers::noon());
    // Tried then, put off till then.
    assert_eq!(bench.deliver().0.failed, 1);
    assert!(bench.wait() < TimeDelta::minutes(1));
    bench.clock.advance(TimeDelta::minutes(12));
    let delivered = bench.deliver().0;
    assert_eq!((delivered.delivered, receiver.keys()), (1, vec!["k".to_owned(); 3]));
}

#[test]
fn a_message_from_the_future_that_was_never_tried_is_due_now_and_its_age_is_told() {
    let bench = Bench::new(&webhook("a", &format!("http://127.0.0.1:{}", refusing_port())));
    bench.clock.advance(TimeDelta::days(3));
    bench.owe("a", "k", &opened());
    bench.clock.set(receivers::noon());
    assert_eq!(bench.deliver().0.failed, 1);
    bench.clock.advance(TimeDelta::minutes(12));
    let facts = bench.deliver().0.facts;
    assert_eq!((facts.samples[0].value.to_bits(), facts.checks[0].level), (1f64.to_bits(), Level::Warning));
    assert_eq!(facts.checks[0].summary, "1 message owed, the oldest for 12 min 00 s");
}

#[test]
fn a_wrong_key_is_told_by_another_channel_and_the_messages_wait_until_it_is_mended() {
    let broken =
        Receiver::start(|number, got| if number == 0 { Answer::status(401) } else { Answer::yes(&got.path) });
    let other = Receiver::willing();
    let bench = Bench::new(&(webhook("a", &broken.url()) + &webhook("b", &other.url())));
    for key in ["k1", "k2"] {
        bench.owe("a", key, &opened());
    }
    let (delivered, told) = bench.deliver();
    assert_eq!((delivered.failed, delivered.refused), (1, 0));
    assert!(told.contains("it is tried again, and told by channel b (message k1)"), "{told}");
    // What waits behind is told too, once, and so is what comes later.
    assert_eq!(other.keys(), ["undeliverable:b:k1", "undeliverable:b:k2"]);
    bench.owe("a", "k3", &opened());
    bench.deliver();
    bench.deliver();
    assert_eq!(other.keys(), ["undeliverable:b:k1", "undeliverable:b:k2", "undeliverable:b:k3"]);
    assert!(bench.wait() > TimeDelta::minutes(45), "{}", bench.wait());
    bench.clock.advance(bench.wait());
    assert_eq!(bench.deliver().0.delivered, 3);
    assert_eq!(broken.keys(), ["k1", "k1", "k2", "k3"]);
    assert_eq!(other.keys().len(), 3);
}

#[test]
fn channels_with_wrong_keys_tell_of_each_other_once() {
    let receiver = Receiver::start(|_, _| Answer::status(403));
    let config = ["a", "b", "c"].map(|name| webhook(name, &receiver.url())).concat();
    let bench = Bench::new(&config);
    for key in ["k1", "k2"] {
        bench.owe("a", key, &opened());
    }
    for _ in 0..30 {
        bench.deliver();
        bench.clock.advance(TimeDelta::hours(1));
    }
    let mut keys: Vec<_> = bench.rows().into_iter().map(|row| row.2).collect();
    keys.sort();
    let expected =
        ["k1", "k2", "undeliverable:b:k1", "undeliverable:b:k2", "undeliverable:c:k1", "undeliverable:c:k2"];
    assert_eq!(keys, expected);
    assert_eq!(bench.states(), ["owed"; 6]);
}

#[test]
fn the_console_tells_of_no_other_channel_while_there_is_one_that_people_read() {
    let receiver = Receiver::start(|_, _| Answer::status(400));
    let other = Receiver::willing();
    let console = "[channel.0]\ntype = \"console\"\n";
    let mut bench =
        Bench::new(&(console.to_owned() + &webhook("a", &receiver.url()) + &webhook("b", &other.url())));
    bench.owe("a", "k1", &opened());
    bench.deliver();
    assert_eq!(other.keys(), ["undeliverable:b:k1"]);
    bench.configure(&(console.to_owned() + &webhook("a", &receiver.url())));
    bench.owe("a", "k2", &opened());
    let (delivered, told) = bench.deliver();
    assert!(told.contains("error: channel a") && told.contains("there is no other channel"), "{told}");
    assert_eq!(delivered.facts.checks[0].level, Level::Critical);
}

#[test]
fn a_channel_that_takes_nothing_for_an_hour_is_told_of_once() {
    let other = Receiver::willing();
    // The secret is not there, and then nobody listens.
    let secret = format!(
        "{}token = {{ file = \"absent\" }}\n",
        webhook("a", &format!("http://127.0.0.1:{}", refusing_port()))
    );
    let mut bench = Bench::new(&(secret.clone() + &webhook("b", &other.url())));
    bench.owe("a", "k", &opened());
    for minute in 0..600 {
        if minute == 300 {
            bench.secret("absent", "there");
        }
        bench.deliver();
        bench.clock.advance(TimeDelta::minutes(1));
        assert_eq!(other.got().is_empty(), minute < 60, "minute {minute}");
    }
    assert_eq!(other.keys(), ["undeliverable:b:channel:a:0"]);
    let note = other.got()[0].json()["note"].as_str().unwrap().to_owned();
    assert!(
        note.starts_with("channel a has taken nothing for 1 h ") && note.contains("cannot read the secret"),
        "{note}"
    );
    // It works, and fails once more.
    let willing = Receiver::willing();
    bench.configure(&(webhook("a", &willing.url()) + &webhook("b", &other.url())));
    bench.clock.advance(TimeDelta::hours(1));
    assert_eq!(bench.deliver().0.delivered, 1);
    bench.configure(&(secret + &webhook("b", &other.url())));
    bench.owe("a", "k2", &opened());
    for _ in 0..200 {
        bench.deliver();
        bench.clock.advance(TimeDelta::minutes(1));
    }
    assert_eq!(other.keys().len(), 2);
}

#[test]
fn where_nothing_works_no_channel_tells_of_another() {
    let url = format!("http://127.0.0.1:{}", refusing_port());
    let bench = Bench::new(&(webhook("a", &url) + &webhook("b", &url)));
    bench.owe("a", "ka", &opened());
    bench.owe("b", "kb", &opened());
    for _ in 0..10 {
        bench.deliver();
        bench.clock.advance(TimeDelta::hours(1));
    }
    assert_eq!(bench.rows().len(), 2);
}

#[test]
fn a_reminder_takes_the_place_of_one_that_is_still_owed() {
    let receiver =
        Receiver::start(|number, got| if number == 0 { Answer::status(503) } else { Answer::yes(&got.path) });
    let bench = Bench::new(&webhook("a", &receiver.url()));
    let reminder =
        |ids: &[i64]| message(Kind::Reminder, ids.iter().map(|&id| incident(id, "probe api")).collect());
    bench.owe("a", "opened", &opened());
    for (key, ids) in [("r1", &[7][..]), ("other", &[9]), ("r2", &[7]), ("r3", &[7, 8])] {
        bench.owe("a", key, &reminder(ids));
    }
    bench.deliver();
    bench.clock.advance(TimeDelta::hours(1));
    let delivered = bench.deliver().0;
    assert_eq!(receiver.keys(), ["opened", "opened", "other", "r3"]);
    assert_eq!(bench.states(), ["delivered", "replaced", "delivered", "replaced", "delivered"]);
    assert_eq!(delivered.facts.samples[0].value.to_bits(), 0f64.to_bits());
}

#[test]
fn a_message_that_its_server_never_takes_holds_up_the_others_for_a_day_only() {
    let check = |status: u16| {
        let receiver = Receiver::start(move |_, got| {
            if got.key() == "poison" { Answer::status(status) } else { Answer::yes(&got.path) }
        });
        let other = Receiver::willing();
        let bench = Bench::new(&(webhook("a", &receiver.url()) + &webhook("b", &other.url())));
        for key in ["poison", "k1", "k2"] {
            bench.owe("a", key, &opened());
        }
        let others = || receiver.keys().into_iter().filter(|key| key != "poison").collect::<Vec<_>>();
        for minute in 0..27 * 60 {
            bench.deliver();
            assert!(minute >= 24 * 60 || others().is_empty(), "{status}, minute {minute}");
            bench.clock.advance(TimeDelta::minutes(1));
        }
        assert_eq!(others(), ["k1", "k2"], "{status}");
        // It was told by the other channel before it made way for good.
        assert!(other.keys().contains(&"undeliverable:b:poison".to_owned()), "{status}: {:?}", other.keys());
        assert_eq!(bench.states()[..3], ["refused", "delivered", "delivered"], "{status}");
        assert!(!bench.states().contains(&"owed".to_owned()), "{status}");
    };
    check(500);
    check(403);
}

#[test]
fn a_message_that_its_server_never_takes_stays_owed_where_nobody_else_can_tell_of_it() {
    let receiver = Receiver::start(|number, got| {
        if got.key() == "poison" && number < 60 { Answer::status(500) } else { Answer::yes(&got.path) }
    });
    let bench = Bench::new(&webhook("a", &receiver.url()));
    for key in ["poison", "k1"] {
        bench.owe("a", key, &opened());
    }
    for _ in 0..27 * 60 {
        bench.deliver();
        bench.clock.advance(TimeDelta::minutes(1));
    }
    assert_eq!(bench.states(), ["owed", "delivered"]);
    // What comes later does not wait for its next attempt.
    bench.owe("a", "k2", &opened());
    bench.deliver();
    assert_eq!(bench.states()[2], "delivered");
    for _ in 0..60 {
        bench.clock.advance(TimeDelta::hours(1));
        bench.deliver();
    }
    assert_eq!(bench.states(), ["delivered"; 3]);
}

#[test]
fn a_server_that_is_down_for_days_costs_no_message_and_what_waits_is_told_elsewhere() {
    let up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_up = std::sync::Arc::clone(&up);
    let receiver = Receiver::start(move |_, got| {
        let up = is_up.load(std::sync::atomic::Ordering::Relaxed);
        if up { Answer::yes(&got.path) } else { Answer::status(503) }
    });
    let other = Receiver::willing();
    let bench = Bench::new(&(webhook("a", &receiver.url()) + &webhook("b", &other.url())));
    for key in ["k1", "k2", "k3"] {
        bench.owe("a", key, &opened());
    }
    for _ in 0..60 * 12 {
        bench.deliver();
        bench.clock.advance(TimeDelta::minutes(5));
    }
    assert_eq!(
        other.keys(),
        ["undeliverable:b:channel:a:0", &format!("undeliverable:b:waiting:a:{:019}", 3)]
    );
    up.store(true, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..3 {
        bench.clock.advance(TimeDelta::hours(1));
        bench.deliver();
    }
    assert_eq!(bench.states(), ["delivered"; 5]);
    assert_eq!(other.keys().len(), 2);
}

#[test]
fn what_waits_behind_a_failing_channel_is_told_in_one_report_that_counts_what_it_does_not_name() {
    let broken = Receiver::start(|_, _| Answer::status(401));
    let other = Receiver::willing();
    let bench = Bench::new(&(webhook("a", &broken.url()) + &webhook("b", &other.url())));
    bench.owe("a", "head", &opened());
    let behind = serde_json::to_string(&opened()).unwrap();
    bench
        .state
        .write(|db| {
            let mut add = db.prepare(
                "INSERT INTO notification (channel, kind, key, message, owed, due, state)
                 SELECT 'a', 'opened', ?1, json_set(?2, '$.incidents[0].id', ?3), owed, due, 'owed'
                 FROM notification WHERE id = 1",
            )?;
            (1..=10_000).try_for_each(|id| add.execute((format!("k{id}"), &behind, 100 + id)).map(drop))
        })
        .unwrap();
    let started = Instant::now();
    bench.deliver();
    let took = started.elapsed();
    assert_eq!(other.keys(), ["undeliverable:b:head", &format!("undeliverable:b:waiting:a:{:019}", 10_001)]);
    let report = other.got()[1].json();
    assert_eq!(report["incidents"].as_array().unwrap().len(), 10);
    let note = report["note"].as_str().unwrap();
    assert!(note.starts_with("channel a does not take 10000 messages: answered 401"), "{note}");
    assert!(note.contains("and 9990 more incidents: see `reliab alert list`"), "{note}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    // Once.
    bench.deliver();
    assert_eq!(other.keys().len(), 2);
}

#[test]
fn a_configuration_that_cannot_be_read_is_told_ends_with_an_error_sends_no_ping_and_keeps_what_is_owed() {
    let receiver = Receiver::willing();
    let config = webhook("a", &receiver.url()) + "[ping]\nurl = { env = \"PING_URL\" }\n[backup]\n";
    let bench = Bench::new(&config);
    bench.owe("a", "k", &opened());
    let run = |extra: &str| {
        let path = bench.state_dir().with_file_name("broken.toml");
        std::fs::write(&path, config.clone() + extra).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_reliab-alert"))
            .args(["--quiet", "--config"])
            .arg(path)
            .env_clear()
            .env("RELIAB_STATE_DIR", bench.state_dir())
            .env("RUNTIME_DIRECTORY", bench.state_dir())
            .env("PING_URL", receiver.url() + "/ping")
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // Cron mails what stands on stderr; systemd sees the exit code.
    let (code, said) = run("colour = 1\n");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("broken.toml:7:1: unknown key `colour`"), "{said}");
    // The channel that can be read is told, and nobody that all is well.
    let got = receiver.got();
    assert_eq!(got.iter().map(|got| got.path.as_str()).collect::<Vec<_>>(), ["/a"]);
    let note = got[0].json()["note"].as_str().unwrap().to_owned();
    assert!(note.starts_with("nothing is watched") && note.contains("unknown key `colour`"), "{note}");
    assert_eq!(bench.states(), ["owed"]);
    // Not each minute.
    run("colour = 1\n");
    assert_eq!(receiver.got().len(), 1);
    let (_, said) = run("");
    assert_eq!((bench.states()[0].as_str(), receiver.got()[1].key().as_str()), ("delivered", "k"), "{said}");
}
