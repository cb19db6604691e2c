//! What the program prints: text for people, or one JSON object a line for machines.
//!
//! Results go to stdout, errors and the log to stderr. A reader that went away (`| head`) ends the printing and not
//! the program: ports still have to be closed in order.

use std::{
    fmt,
    io::{Write, stderr, stdout},
};

use netpoll::config::{ConfigError, LogFormat};
use serde_json::{Value, json};

/// The printer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Out {
    format: LogFormat,
}

impl Out {
    pub(super) fn new(format: LogFormat) -> Out {
        Out { format }
    }

    pub(super) fn is_json(self) -> bool {
        self.format == LogFormat::Json
    }

    /// Prints `text`, or the object `value` with its kind as `event`.
    pub(super) fn event(self, kind: &str, text: impl fmt::Display, value: Value) {
        match self.format {
            LogFormat::Text => put(stdout().lock(), text),
            LogFormat::Json => put(stdout().lock(), with_event(kind, value)),
        }
    }

    /// Prints `text` for people; machines get it as part of some event.
    pub(super) fn text(self, text: impl fmt::Display) {
        if !self.is_json() {
            put(stdout().lock(), text);
        }
    }

    /// Prints how it is going: not a result, so text goes to stderr.
    pub(super) fn progress(self, text: impl fmt::Display, value: Value) {
        match self.format {
            LogFormat::Text => put(stderr().lock(), text),
            LogFormat::Json => put(stdout().lock(), with_event("progress", value)),
        }
    }

    /// Prints an error, all of it, once.
    pub(super) fn error(self, error: &anyhow::Error) {
        // A config's mistakes start with `file:line:column`, for editors to find.
        let bare = error.downcast_ref::<ConfigError>().is_some();
        let prefix = if bare { "" } else { "netpoll: " };
        match self.format {
            LogFormat::Text => put(stderr().lock(), format_args!("{prefix}{error:#}")),
            LogFormat::Json => {
                put(stderr().lock(), with_event("error", json!({"level": "ERROR", "message": format!("{error:#}")})));
            }
        }
    }
}

fn put(mut stream: impl Write, text: impl fmt::Display) {
    let text = text.to_string();
    // In one piece, so that lines of other threads do not come in between.
    let _ = stream.write_all(format!("{}\n", text.trim_end_matches('\n')).as_bytes()).and_then(|()| stream.flush());
}

fn with_event(kind: &str, mut value: Value) -> Value {
    if let Value::Object(map) = &mut value {
        map.insert("event".into(), kind.into());
    }
    value
}
