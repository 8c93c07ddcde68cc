//! Progress of a long job, counted by engines and drawn beside them.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::units;

/// Time between two drawings.
const TICK: Duration = Duration::from_millis(125);
/// Jobs shorter than this show nothing.
const PATIENCE: Duration = Duration::from_secs(1);

// Both fit in 80 columns, the message aside.
const WITHOUT_TOTAL: &str = "{prefix} {spinner} {done}{items}, {rate} {wide_msg}";
const WITH_TOTAL: &str = "{prefix} [{bar:10}] {percent:>3} % {done}, {rate}, {left} left {wide_msg}";

/// A handle to the progress bar; does nothing where none is to be shown.
///
/// Engines only add to counters; a thread of its own draws them.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<Display>>);

struct Display {
    counters: Arc<Counters>,
    bar: Mutex<Option<Bar>>,
    patience: Duration,
    target: Box<dyn Fn() -> ProgressDrawTarget + Send + Sync>,
}

#[derive(Default)]
struct Counters {
    bytes: AtomicU64,
    items: AtomicU64,
    /// Zero until it is known.
    total: AtomicU64,
    message: Mutex<String>,
}

/// A bar and the thread that draws it, until dropped.
struct Bar {
    drawing: ProgressBar,
    stop: Arc<AtomicBool>,
    ticker: Option<JoinHandle<()>>,
}

impl Progress {
    /// Progress shown on stderr once a job has lasted a second.
    pub(crate) fn on_stderr() -> Self {
        Self::shown_on(PATIENCE, ProgressDrawTarget::stderr)
    }

    fn shown_on(patience: Duration, target: impl Fn() -> ProgressDrawTarget + Send + Sync + 'static) -> Self {
        let (counters, bar) = Default::default();
        Self(Some(Arc::new(Display { counters, bar, patience, target: Box::new(target) })))
    }

    /// Begins a job of `total` bytes, if that is known, ending the one before.
    pub fn start(&self, label: &str, total: Option<u64>) {
        let Some(display) = &self.0 else { return };
        let mut shown = locked(&display.bar);
        *shown = None;
        display.counters.reset(total.unwrap_or(0));
        *shown = Bar::start(display, label);
    }

    /// Counts bytes and items as done.
    pub fn advance(&self, bytes: u64, items: u64) {
        if let Some(display) = &self.0 {
            display.counters.bytes.fetch_add(bytes, Ordering::Relaxed);
            display.counters.items.fetch_add(items, Ordering::Relaxed);
        }
    }

    /// Tells the total of the job in bytes, once it is known or known better.
    pub fn set_total(&self, bytes: u64) {
        if let Some(display) = &self.0 {
            display.counters.total.store(bytes, Ordering::Relaxed);
        }
    }

    /// Says what is being worked on.
    pub fn message(&self, text: &str) {
        if let Some(display) = &self.0 {
            text.clone_into(&mut locked(&display.counters.message));
        }
    }

    /// Ends the job and clears the bar.
    pub fn finish(&self) {
        if let Some(display) = &self.0 {
            *locked(&display.bar) = None;
        }
    }

    /// Does `act` with the bar out of the way.
    pub(crate) fn suspend<T>(&self, act: impl FnOnce() -> T) -> T {
        let Some(display) = &self.0 else { return act() };
        match &*locked(&display.bar) {
            Some(shown) => shown.drawing.suspend(act),
            None => act(),
        }
    }
}

impl Counters {
    fn reset(&self, total: u64) {
        self.bytes.store(0, Ordering::Relaxed);
        self.items.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        locked(&self.message).clear();
    }

    fn draw(self: &Arc<Self>, bar: &ProgressBar) {
        let total = self.total.load(Ordering::Relaxed);
        if total > 0 && bar.length().is_none() {
            bar.set_style(style(WITH_TOTAL, self));
        }
        let message = printable_line(&locked(&self.message));
        if message != bar.message() {
            bar.set_message(message);
        }
        bar.update(|state| {
            if total > 0 {
                state.set_len(total);
            }
            state.set_pos(self.bytes.load(Ordering::Relaxed));
        });
    }
}

impl Bar {
    /// `None` if no thread can be had: a job goes on without its bar.
    fn start(display: &Display, label: &str) -> Option<Self> {
        let drawing = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
            .with_style(style(WITHOUT_TOTAL, &display.counters))
            .with_prefix(label.to_owned());
        let stop = Arc::new(AtomicBool::new(false));
        let appear_at = Instant::now() + display.patience;
        let target = (display.target)();
        let (counters, drawn, stopped) = (Arc::clone(&display.counters), drawing.clone(), Arc::clone(&stop));
        let ticker = thread::Builder::new()
            .name("progress".to_owned())
            .spawn(move || tick(&drawn, &counters, &stopped, appear_at, target))
            .ok()?;
        Some(Self { drawing, stop, ticker: Some(ticker) })
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(ticker) = self.ticker.take() {
            ticker.thread().unpark();
            // A ticker that panicked has drawn its last; the job does not fail for it.
            let _ = ticker.join();
        }
        self.drawing.finish_and_clear();
    }
}

/// Draws until told to stop, and shows nothing before `appear_at`.
fn tick(
    bar: &ProgressBar,
    counters: &Arc<Counters>,
    stop: &AtomicBool,
    appear_at: Instant,
    target: ProgressDrawTarget,
) {
    let mut waiting = Some(target);
    loop {
        thread::park_timeout(TICK);
        if stop.load(Ordering::Acquire) {
            return;
        }
        if Instant::now() >= appear_at
            && let Some(target) = waiting.take()
        {
            bar.set_draw_target(target);
        }
        counters.draw(bar);
    }
}

fn style(template: &'static str, counters: &Arc<Counters>) -> ProgressStyle {
    let counters = Arc::clone(counters);
    // The templates are constants of this file; a wrong one shows the plain bar.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style
        .progress_chars("=> ")
        .tick_chars("-\\|/ ")
        .with_key("items", move |_: &ProgressState, line: &mut dyn fmt::Write| {
            let _ = match counters.items.load(Ordering::Relaxed) {
                0 => Ok(()),
                items => write!(line, " in {items} items"),
            };
        })
        .with_key("done", |state: &ProgressState, line: &mut dyn fmt::Write| {
            let _ = line.write_str(&done(state));
        })
        .with_key("rate", |state: &ProgressState, line: &mut dyn fmt::Write| {
            let _ = write!(line, "{}/s", units::bytes(whole(state.per_sec())));
        })
        .with_key("left", |state: &ProgressState, line: &mut dyn fmt::Write| {
            let _ = line.write_str(&time_left(state.eta()));
        })
}

/// Tenths of a second would pretend to know.
fn time_left(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..60 => format!("{} s", seconds.max(1)),
        seconds => units::duration(Duration::from_secs(seconds)),
    }
}

fn done(state: &ProgressState) -> String {
    let bytes = units::bytes(state.pos());
    state.len().map_or_else(|| bytes.clone(), |total| format!("{bytes} of {}", units::bytes(total)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, which is wanted"
)]
fn whole(rate: f64) -> u64 {
    rate as u64
}

/// A message of one line, without characters that command the terminal.
fn printable_line(text: &str) -> String {
    text.replace(char::is_control, "?")
}

/// A lock that a panicked thread left behind guards only what is drawn.
fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use indicatif::InMemoryTerm;

    fn on(terminal: &InMemoryTerm, patience: Duration) -> Progress {
        let terminal = terminal.clone();
        Progress::shown_on(patience, move || ProgressDrawTarget::term_like(Box::new(terminal.clone())))
    }

    /// Waits until the terminal shows `text`.
    fn wait_for(terminal: &InMemoryTerm, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !terminal.contents().contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in {:?}", terminal.contents());
            thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_job_with_a_total_shows_share_amount_rate_and_time_left() {
        let terminal = InMemoryTerm::new(5, 160);
        let progress = on(&terminal, Duration::ZERO);
        progress.start("backup", None);
        progress.advance(1 << 20, 3);
        wait_for(&terminal, "1.0 MiB in 3 items, ");
        progress.set_total(4 << 20);
        progress.message("data/\x1bfile");
        wait_for(&terminal, "data/?file");
        let line = terminal.contents();
        assert!(line.starts_with("backup [==>       ] "), "{line}");
        assert!(line.contains("  25 % 1.0 MiB of 4.0 MiB, "), "{line}");
        assert!(line.contains("/s, ") && line.contains(" left "), "{line}");
        progress.finish();
        assert_eq!(terminal.contents(), "");
    }

    #[test]
    fn a_short_job_shows_nothing() {
        let terminal = InMemoryTerm::new(5, 120);
        let progress = on(&terminal, Duration::from_secs(3600));
        progress.start("backup", Some(10));
        progress.advance(5, 1);
        thread::sleep(TICK * 3);
        assert_eq!(terminal.contents(), "");
    }

    #[test]
    fn text_is_written_with_the_bar_out_of_the_way() {
        let terminal = InMemoryTerm::new(5, 120);
        let progress = on(&terminal, Duration::ZERO);
        progress.start("backup", Some(10));
        wait_for(&terminal, "backup [");
        assert_eq!(progress.suspend(|| terminal.contents()), "");
        wait_for(&terminal, "backup [");
    }

    #[test]
    fn finishing_does_not_wait_for_the_next_drawing() {
        let terminal = InMemoryTerm::new(5, 120);
        let progress = on(&terminal, Duration::ZERO);
        let begun = Instant::now();
        for _ in 0..50 {
            progress.start("backup", None);
            progress.finish();
        }
        assert!(begun.elapsed() < TICK * 25, "{:?}", begun.elapsed());
    }

    #[test]
    fn without_a_display_nothing_happens() {
        let progress = Progress::default();
        progress.start("backup", Some(1));
        progress.advance(1, 1);
        progress.finish();
        assert_eq!(progress.suspend(|| 7), 7);
    }
}
