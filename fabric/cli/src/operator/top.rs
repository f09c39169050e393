//! `wireonce top`: the view of the controller, each second.
//!
//! ```text
//! asks, each second ──▶ events ──▶ ┌ picture ┐ ──▶ page, cut to the terminal
//! SIGTERM, SIGINT  ───▶   +        └ of when ┘
//! keys ────────────────────────────────┘
//! ```
//! Who asks is a thread of its own, so keys and signals are answered also while a controller hangs.
//! One that restarts, or is gone, does not end the view: the last picture stays, below a line that says
//! since when there is no answer. Keys switch tables and do nothing else. They are read only if both
//! ends are a terminal, which is given back as it was.

mod keys;
mod picture;
mod text;

use super::ask::Ask;
use crate::{
    failure::Failure,
    output,
    sys::{Signal, Signals},
};
use clap::Parser;
use keys::{Key, Keys};
use picture::Picture;
use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    sync::mpsc::{self, Sender},
    thread,
    time::{Duration, Instant},
};
use wireonce_control::client::{Client, ClientError};
use wireonce_sight::Now;

/// The time between two views.
const INTERVAL: Duration = Duration::from_secs(1);

/// The command line of `top`.
#[derive(Debug, Parser)]
pub(crate) struct TopArgs {
    /// Show one view, and end
    #[arg(long)]
    once: bool,
    /// Only this table
    #[arg(long, value_enum)]
    table: Option<Shown>,
    #[command(flatten)]
    ask: Ask,
}

/// Which tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(super) enum Shown {
    /// All of them
    #[default]
    All,
    /// Servers and gateways
    Servers,
    /// Uplinks
    Uplinks,
    /// vNICs
    Vnics,
    /// Pools, with the starved beside those with a surplus
    Pools,
}

/// What happens beside keys.
#[derive(Debug)]
enum Event {
    /// The controller answered, or not.
    View(Result<Box<Now>, ClientError>),
    /// It is to end.
    Stop,
}

/// Asks and shows, once or until it is ended. `--json` prints one view.
pub(crate) fn top(args: &TopArgs) -> Result<(), Failure> {
    let client = args.ask.client();
    let shown = args.table.unwrap_or_default();
    if args.once || args.ask.json {
        let now: Now = client.get("/v1/now")?;
        return args.ask.show(&now, || text::page(&now, shown));
    }
    let failed = |error: io::Error| Failure::Runtime(format!("the live view: {error}"));
    // Before the first thread, and before the terminal is another.
    let signals = Signals::block().map_err(failed)?;
    let (events, happened) = mpsc::channel();
    let (bell, rung) = UnixStream::pair().map_err(failed)?;
    rung.set_nonblocking(true).map_err(failed)?;
    bell.set_nonblocking(true).map_err(failed)?;
    let other_bell = bell.try_clone().map_err(failed)?;
    let stop = events.clone();
    spawn("signals", move || wait_for_end(signals, &stop, &other_bell)).map_err(failed)?;
    spawn("asks", move || look(&client, &events, &bell)).map_err(failed)?;

    let mut keys = Keys::begin();
    let (mut shown, mut picture) = (shown, None::<Picture>);
    loop {
        if let Some(picture) = &picture {
            let page = keys.fit(&picture.page(shown, Instant::now()));
            // Home, and erase what is below: less flicker than erasing first.
            output::print(&format!("\x1b[H\x1b[J{page}"))?;
        }
        match keys.wait(&rung, INTERVAL) {
            Key::None => {}
            Key::Show(table) => shown = table,
            Key::Quit => return output::print("\n"),
        }
        for event in happened.try_iter() {
            match (event, &mut picture) {
                (Event::Stop, _) => return output::print("\n"),
                (Event::View(Ok(now)), _) => picture = Some(Picture::new(*now)),
                (Event::View(Err(error)), Some(picture)) => picture.is_not_answered(&error),
                // Most likely a wrong socket: nothing was ever seen there.
                (Event::View(Err(error)), None) => return Err(error.into()),
            }
        }
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
}

/// Asks until nobody wants to know any more.
fn look(client: &Client, events: &Sender<Event>, bell: &UnixStream) {
    while events.send(Event::View(client.get("/v1/now").map(Box::new))).is_ok() {
        ring(bell);
        thread::sleep(INTERVAL);
    }
}

/// Whatever comes, a daemon's reason to read its file again, too, is a reason to end.
fn wait_for_end(signals: Signals, events: &Sender<Event>, bell: &UnixStream) {
    let (Ok(Signal::Stop(_) | Signal::Reload) | Err(_)) = signals.wait();
    // Nobody listens who has ended already.
    let _ = events.send(Event::Stop);
    ring(bell);
}

/// Wakes who waits for keys. A bell that has no room has been rung.
fn ring(mut bell: &UnixStream) {
    let _ = bell.write(&[0]);
}
