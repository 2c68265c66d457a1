//! A terminal for a live view: its keys one by one, its other screen, and all of it given back at the end.
//!
//! Used by `watch.rs`. It must never leave a terminal as it was not found, whatever ends the view but a kill.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::sync::mpsc::Sender;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

/// Something that the view reacts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// This key.
    Key(u8),
    /// The window has another size, or the program goes on after it was stopped.
    Redraw,
    /// To end.
    End,
}

/// The other screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// What a window is taken for that has no size.
const SIZE: (usize, usize) = (24, 80);

/// A terminal that is ours until this is dropped.
pub(super) struct Terminal {
    /// How it was found; `None` where no keys are read.
    found: Option<Termios>,
}

impl Terminal {
    /// Whether there is one to draw at.
    pub(super) fn is_there() -> bool {
        io::stdout().is_terminal()
    }

    /// Takes it; keys and signals are sent as events from now on.
    pub(super) fn take(events: &Sender<Event>) -> Result<Terminal, String> {
        listen(events.clone())?;
        let found = if io::stdin().is_terminal() { Some(tcgetattr(io::stdin()).map_err(failed)?) } else { None };
        if let Some(found) = &found {
            let mut keys = found.clone();
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            keys.special_codes[SpecialCodeIndex::VMIN] = 1;
            keys.special_codes[SpecialCodeIndex::VTIME] = 0;
            // A stopped view would leave its screen to the shell.
            keys.special_codes[SpecialCodeIndex::VSUSP] = 0;
            tcsetattr(io::stdin(), OptionalActions::Now, &keys).map_err(failed)?;
            read_keys(events.clone());
        }
        let terminal = Terminal { found };
        write(ENTER);
        Ok(terminal)
    }

    /// Rows and columns.
    pub(super) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (usize::from(size.ws_row), usize::from(size.ws_col)),
            Ok(_) | Err(_) => SIZE,
        }
    }

    /// Draws these lines over the last ones; nothing flickers, since nothing is cleared before it is drawn over.
    pub(super) fn draw(&self, lines: &[String]) {
        let mut picture = String::from("\x1b[H");
        for (number, line) in lines.iter().enumerate() {
            if number > 0 {
                picture.push_str("\r\n");
            }
            picture.push_str(line);
            picture.push_str("\x1b[K");
        }
        picture.push_str("\x1b[J");
        write(&picture);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        write(LEAVE);
        if let Some(found) = &self.found {
            // What was typed and not read is not for the shell.
            let _ = tcsetattr(io::stdin(), OptionalActions::Flush, found);
        }
    }
}

fn failed(error: rustix::io::Errno) -> String {
    format!("the terminal cannot be used ({error}); give --json, or send the output to a file")
}

fn write(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn read_keys(events: Sender<Event>) {
    std::thread::spawn(move || {
        let mut key = [0];
        loop {
            let event = match io::stdin().lock().read(&mut key) {
                Ok(1..) => Event::Key(key[0]),
                Ok(0) => Event::End,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => Event::End,
            };
            if events.send(event).is_err() || event == Event::End {
                return;
            }
        }
    });
}

/// Signals become events, so that the terminal is given back before the end.
fn listen(events: Sender<Event>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("signals cannot be listened to ({error}); try again"))?;
    let entered = runtime.enter();
    let on = |kind| signal(kind).map_err(|error| format!("signals cannot be listened to ({error}); try again"));
    let (mut interrupt, mut terminate) = (on(SignalKind::interrupt())?, on(SignalKind::terminate())?);
    let (mut hangup, mut resized) = (on(SignalKind::hangup())?, on(SignalKind::window_change())?);
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let event = tokio::select! {
                    _ = interrupt.recv() => Event::End,
                    _ = terminate.recv() => Event::End,
                    _ = hangup.recv() => Event::End,
                    _ = resized.recv() => Event::Redraw,
                };
                if events.send(event).is_err() || event == Event::End {
                    return;
                }
            }
        });
    });
    Ok(())
}
